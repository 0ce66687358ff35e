"""A float32 tensor of the source seen through a change that leaves the network's function as it is.

`DerivedTensor` is what passes put in place of a weight before it is quantised: nothing is computed until the weight is
written, and then slice by slice.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

__all__ = ["DerivedTensor", "ScaledTensor"]

Floats: TypeAlias = npt.NDArray[np.float32]


class DerivedTensor(ir.LazyTensor):
    """A tensor computed from another, of the same shape unless it is given one.

    Attributes:
        base: the tensor it is computed from, derived itself or the source's.
    """

    def __init__(self, base: ir.TensorProtocol, shape: tuple[int, ...] | None = None) -> None:
        super().__init__(
            lambda: ir.tensor(self.derive(base.numpy(), slice(None)), name=base.name),
            ir.DataType.FLOAT,
            ir.Shape(base.shape.numpy() if shape is None else shape),
            name=base.name,
        )
        self.base = base

    @property
    def source(self) -> ir.TensorProtocol:
        """The tensor all of it is computed from."""
        return self.base.source if isinstance(self.base, DerivedTensor) else self.base

    @property
    def key(self) -> Hashable:
        """What was done, for telling tensors of one name apart."""
        raise NotImplementedError

    @property
    def columnwise(self) -> bool:
        """Whether columns can be computed one by one."""
        return not isinstance(self.base, DerivedTensor) or self.base.columnwise

    def derive(self, values: Floats, columns: slice) -> Floats:
        """Return the tensor's columns, given the same columns of `base` in any memory layout."""
        raise NotImplementedError

    def moments(self, moments: Floats) -> Floats:
        """Return X^T X (K, K) of the inputs of this weight, given it for the inputs of the source's."""
        return self.base.moments(moments) if isinstance(self.base, DerivedTensor) else moments


class ScaledTensor(DerivedTensor):
    """A weight (K, N) whose inputs come divided by `rows`, or whose outputs are to be multiplied by `columns`.

    Attributes:
        rows: (K,) float32.
        columns: (N,) float32.
    """

    def __init__(self, base: ir.TensorProtocol, rows: Floats | None, columns: Floats | None) -> None:
        super().__init__(base)
        self.rows = rows
        self.columns = columns

    @property
    def key(self) -> Hashable:
        """All scalings of one bundle are alike: they follow from its weights."""
        return "scaled"

    def derive(self, values: Floats, columns: slice) -> Floats:
        """Return columns of the scaled weight."""
        if self.rows is not None:
            values = values * self.rows[:, None]
        return values if self.columns is None else values * self.columns[columns]

    def moments(self, moments: Floats) -> Floats:
        """Return the moments of inputs that come divided."""
        moments = super().moments(moments)
        return moments if self.rows is None else moments / self.rows / self.rows[:, None]
