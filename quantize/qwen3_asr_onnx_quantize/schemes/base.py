"""What a scheme is: keys of a recipe's table, what they do to a graph, and how the weights are then stored.

To add one: a file in this folder with a frozen dataclass that inherits from `Scheme`, and a line in `SCHEMES`. Its
fields are the keys of the recipe's table. What it does not override is the float32 copy.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from onnx_ir.passes import InPlacePass

from qwen3_asr_onnx.bundle.manifest import CacheDtype
from qwen3_asr_onnx.errors import OptionsError
from qwen3_asr_onnx_quantize.weights.pending import Storage

from .products import Choose

__all__ = ["Scheme", "require"]


class Scheme(Storage):
    """What becomes of the products of one part of the model. How weights are stored is for `Storage` to say.

    Attributes:
        whole_graph: it changes all of a graph and cannot be given to a part of one.
        devices: where its graphs run; empty for wherever the source's do.
        cache_dtype: of the caches of a decoder under this scheme.
        scheme: its name in a recipe; one class may have several.
    """

    whole_graph: ClassVar[bool] = False
    devices: ClassVar[tuple[str, ...]] = ()
    cache_dtype: ClassVar[CacheDtype] = "float32"
    scheme: str

    @property
    def exclude(self) -> tuple[str, ...]:
        """Patterns (`*` matches anything) of weight names that stay float32."""
        return ()

    @property
    def error(self) -> float:
        """Root mean square error of a product under it, as a share of the product, with Gaussian numbers."""
        return 0.0

    @property
    def needs(self) -> tuple[str, ...]:
        """What it needs of the processor, in the words of the manifest."""
        return ()

    @classmethod
    def passes(cls, choose: Choose) -> Sequence[InPlacePass]:  # noqa: ARG003
        """Return the passes that put schemes of this class into a graph, `choose` telling which product has which."""
        return ()


def require(condition: bool, key: str, value: object, wanted: str) -> None:
    """Raise `OptionsError` that names a key, its value and what is wanted, unless the condition holds."""
    if not condition:
        raise OptionsError(f"{key} is {value!r}; give {wanted}")
