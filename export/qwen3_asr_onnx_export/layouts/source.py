"""One variant of a bundle, on the disk or streamed from a checkpoint: its graphs, and the bytes of its tensors."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qwen3_asr_onnx.bundle.files import Bundle, file_record
from qwen3_asr_onnx.bundle.manifest import EMBEDDINGS_FILE, Variant
from qwen3_asr_onnx.bundle.workshops import Float32Source
from qwen3_asr_onnx.errors import BundleError, OptionsError
from qwen3_asr_onnx_export.weights import refuse_absurd

__all__ = ["TABLE", "LayoutSource"]

TABLE = "model.embed_tokens.weight"

READ_BYTES = 16 << 20
"""Largest piece of a tensor in memory at once."""


@dataclass(frozen=True, slots=True)
class LayoutSource:
    """What a layout is made of.

    Attributes:
        bundle: the bundle; its large files need not be there if they are streamed.
        name: of the variant.
        streamed: where the numbers of the large files come from if they are not there.
    """

    bundle: Bundle
    name: str
    streamed: Float32Source | None = None

    @classmethod
    def of_bundle(cls, bundle: Bundle, name: str | None) -> LayoutSource:
        """Return a variant of a bundle, the first if none is named, its files known to be what the manifest says.

        Raises:
            BundleError: there is no such variant, or a file is missing or damaged.
            OptionsError: no layout can express it.
        """
        name = next(iter(bundle.manifest.variants), "") if name is None else name
        source = cls(bundle, name)
        bundle.variant(name)
        source.require_expressible()
        for file in dict.fromkeys(source.variant.files):
            if file_record(bundle.require(file)) != bundle.manifest.files[file]:
                raise BundleError(f"{bundle.path / file}: damaged or edited; export or download the bundle again")
        return source

    @property
    def variant(self) -> Variant:
        """The variant."""
        return self.bundle.manifest.variants[self.name]

    def require_expressible(self) -> None:
        """Raise where other programs could not run it.

        Raises:
            OptionsError: they could not; the message says what is in the way.
        """
        manifest, variant = self.bundle.manifest, self.variant
        graphs = [manifest.files[name].sha256 for name in (variant.decoder_init, variant.decoder_step)]
        if manifest.kind != "asr":
            why = "it is an aligner, which writes no text; programs that load these files only transcribe"
        elif graphs[0] != graphs[1]:
            why = "prompts and steps have a graph each, and these programs know one set of decoder weights"
        elif variant.cache_dtype != "float32":
            why = f"its cache is {variant.cache_dtype}, and these programs keep one in float32"
        elif variant.embeddings != EMBEDDINGS_FILE:
            why = "its table of embeddings is in 8 bits, and these programs read one in float16"
        else:
            return
        raise OptionsError(
            f"{self.bundle.path}: variant {self.name!r} cannot be put into another program's layout: {why}"
        )

    def encoder(self) -> ir.Model:
        """Return the encoder graph, to be changed as one likes."""
        return ir.load(self.bundle.path / self.variant.encoder)

    def decoder(self) -> ir.Model:
        """Return the decoder graph, to be changed as one likes."""
        return ir.load(self.bundle.path / self.variant.decoder_step)

    def table(self) -> ir.ExternalTensor:
        """Return the table of input embeddings: (vocab_size, hidden) float16."""
        dims = self.bundle.manifest.decoder
        shape = (dims.vocab_size, dims.hidden)
        n_bytes = 2 * math.prod(shape)
        where = self.bundle.path
        return ir.ExternalTensor(
            EMBEDDINGS_FILE, 0, n_bytes, ir.DataType.FLOAT16, shape=ir.Shape(shape), name=TABLE, base_dir=where
        )

    def pieces(self, tensor: ir.ExternalTensor) -> Iterator[npt.NDArray[Any]]:
        """Yield the numbers of a tensor of the graphs, or of the table, as they lie in a file, some at a time.

        Raises:
            BundleError: they cannot be read.
        """
        file = str(tensor.location)
        if self.streamed is not None and file in self.streamed.streamed:
            yield from self._streamed(self.streamed, tensor)
            return
        with self.bundle.require(file).open("rb") as handle:
            handle.seek(tensor.offset or 0)
            left = tensor.nbytes
            while left:
                block = handle.read(min(left, READ_BYTES))
                if not block:
                    raise BundleError(f"{self.bundle.path / file}: ends too early; export or download the bundle again")
                left -= len(block)
                yield np.frombuffer(block, np.uint8)

    def _streamed(self, source: Float32Source, tensor: ir.ExternalTensor) -> Iterator[npt.NDArray[Any]]:
        shape = tuple(tensor.shape.numpy())
        rows = max(1, READ_BYTES * shape[0] // tensor.nbytes)
        for start in range(0, shape[0], rows):
            stop = min(start + rows, shape[0])
            if tensor.name == TABLE:
                yield source.table(start, stop)
            else:
                values = source.read(str(tensor.name), start, stop, columns=False)
                refuse_absurd(values, str(tensor.name))
                yield np.ascontiguousarray(values)

    def special_ids(self) -> dict[str, int]:
        """Return the ids of the tokens that prompts and answers are made of, by text."""
        added = json.loads((self.bundle.path / "tokenizer.json").read_text(encoding="utf-8"))["added_tokens"]
        return {token["content"]: token["id"] for token in added}

    def small_file(self, name: str) -> Path:
        """Return the path of a small file of the bundle.

        Raises:
            BundleError: it is not there.
        """
        return self.bundle.require(name)
