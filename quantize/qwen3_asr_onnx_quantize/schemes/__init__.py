"""What can become of a part of the model, one file per scheme, and the table by which recipes name them."""

from .base import Scheme
from .embedding import Embedding
from .fp16 import Half
from .fp32 import Keep
from .stem import Stem
from .w8a8 import Dynamic
from .weight_only import WeightOnly

__all__ = ["SCHEMES", "Dynamic", "Embedding", "Half", "Keep", "Scheme", "Stem", "WeightOnly"]

SCHEMES: dict[str, type[Scheme]] = {"fp32": Keep, "fp16": Half, "int4": WeightOnly, "int8": WeightOnly, "w8a8": Dynamic}
"""A graph with several schemes is rewritten by the last of this table first: the order of its weights follows."""
