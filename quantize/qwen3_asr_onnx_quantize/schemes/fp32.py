"""float32: the part stays as it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .base import Scheme

__all__ = ["Keep"]


@dataclass(frozen=True, slots=True)
class Keep(Scheme):
    """Leave the part as it is, in float32."""

    scheme: Literal["fp32"] = "fp32"
