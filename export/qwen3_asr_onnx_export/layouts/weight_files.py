"""Graphs whose tensors lie in a bundle -> the same graphs beside files of their own, each tensor copied once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir

from qwen3_asr_onnx.bundle.writing import aligned
from qwen3_asr_onnx.errors import OptionsError

from .source import LayoutSource

__all__ = ["MAX_FILE_BYTES", "LayoutFiles"]

MAX_FILE_BYTES = 2_000_000_000
"""Release pages, some file systems and 32-bit offsets take no more in one file."""

PlaceKey = tuple[str, int]


class LayoutFiles:
    """A folder that is being filled. Graphs added later read what is there already.

    Attributes:
        folder: the folder.
        inline: whether graphs hold their weights themselves.
    """

    def __init__(self, folder: Path, source: LayoutSource, *, inline: bool = False) -> None:
        self.folder = folder
        self.inline = inline
        self._source = source
        self._placed: dict[PlaceKey, tuple[str, int]] = {}

    def save(self, model: ir.Model, name: str, weights: str | None = None) -> None:
        """Write a graph, and those of its weights that are not there yet.

        Args:
            model: the graph.
            name: of its file.
            weights: name of the file for weights; `name` with `.data` behind it if not given. What exceeds 2 GB goes on
                in files with a number behind that name.

        Raises:
            OptionsError: the weights were to be inside, and are too many.
            BundleError: a weight cannot be read.
        """
        tensors = [
            (value, value.const_value)
            for value in model.graph.initializers.values()
            if isinstance(value.const_value, ir.ExternalTensor)
        ]
        if self.inline:
            self._embed(tensors, name)
        else:
            self._write(tensors, weights or f"{name}.data")
        ir.save(model, self.folder / name)

    def save_table(self, tensor: ir.ExternalTensor, name: str) -> None:
        """Write one tensor as a file by itself."""
        self._placed[_key(tensor)] = (name, 0)
        with (self.folder / name).open("wb") as file:
            for piece in self._source.pieces(tensor):
                file.write(piece.data.cast("B"))

    def _embed(self, tensors: list[tuple[ir.Value, ir.ExternalTensor]], name: str) -> None:
        n_bytes = sum(tensor.nbytes for _, tensor in tensors)
        if n_bytes > MAX_FILE_BYTES:
            raise OptionsError(
                f"{name} would hold {n_bytes / 1e6:,.0f} MB of weights, and no graph with more than 2 GB in it can be "
                "read; leave out --inline, or take a smaller variant"
            )
        for value, tensor in tensors:
            whole = b"".join(piece.tobytes() for piece in self._source.pieces(tensor))
            array = np.frombuffer(whole, tensor.dtype.numpy()).reshape(tensor.shape.numpy())
            value.const_value = ir.tensor(array, name=tensor.name)

    def _write(self, tensors: list[tuple[ir.Value, ir.ExternalTensor]], weights: str) -> None:
        new = list({_key(tensor): tensor for _, tensor in tensors if _key(tensor) not in self._placed}.values())
        part, file = 0, weights
        while new:
            new = self._write_file(new, file)
            part += 1
            file = f"{weights}.{part}"
        for value, tensor in tensors:
            location, offset = self._placed[_key(tensor)]
            shape, name = ir.Shape(tensor.shape.numpy()), str(tensor.name)
            value.const_value = ir.ExternalTensor(location, offset, tensor.nbytes, tensor.dtype, shape=shape, name=name)

    def _write_file(self, tensors: list[ir.ExternalTensor], name: str) -> list[ir.ExternalTensor]:
        """Write what one file takes of some tensors, and return the others."""
        size = 0
        with (self.folder / name).open("wb") as file:
            for index, tensor in enumerate(tensors):
                offset = aligned(size, tensor.nbytes)
                if offset + tensor.nbytes > MAX_FILE_BYTES and size:
                    return tensors[index:]
                file.write(bytes(offset - size))
                for piece in self._source.pieces(tensor):
                    file.write(piece.data.cast("B"))
                size = offset + tensor.nbytes
                self._placed[_key(tensor)] = (name, offset)
        return []


def _key(tensor: ir.ExternalTensor) -> PlaceKey:
    return str(tensor.location), tensor.offset or 0
