"""A scheme of one's own: one class, one line in the table, and a recipe can name it. The package is not touched."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import onnx_ir as ir
import pytest
from onnx_ir.passes import InPlacePass
from tests.quantize.test_apply import encoded, logits, relative_rms
from tests.support.clips import synthetic_clip

from qwen3_asr_onnx import TranscribeOptions, Transcriber
from qwen3_asr_onnx.bundle.manifest import MANIFEST_FILE
from qwen3_asr_onnx.errors import OptionsError, ProviderError
from qwen3_asr_onnx_quantize.apply import quantize_bundle
from qwen3_asr_onnx_quantize.recipes.recipe import Recipe, parse_recipe
from qwen3_asr_onnx_quantize.schemes import SCHEMES, Scheme
from qwen3_asr_onnx_quantize.schemes.products import Choose, ProductPass
from qwen3_asr_onnx_quantize.weights.pending import Array, Factor, Stored

TEXT = """
[encoder]
scheme = "rounded"
[step]
scheme = "rounded"
bits = 5
exclude = ["*.v_proj.weight"]
"""


@dataclass(frozen=True, slots=True)
class Rounded(Scheme):
    """Weights with few bits of significance, stored as the float32 they are."""

    columns: ClassVar[bool] = True

    scheme: Literal["rounded"] = "rounded"
    bits: int = 6
    rare: bool = False
    exclude: tuple[str, ...] = ()

    @property
    def needs(self) -> tuple[str, ...]:
        return ("rare-instructions",) if self.rare else ()

    def bytes_only(self) -> Rounded:
        return replace(self, exclude=())

    def outputs(self, name: str, shape: tuple[int, ...]) -> tuple[Stored, ...]:
        return (Stored(f"{name}.rounded", np.dtype(np.float32), shape, axis=1),)

    def compute(self, name: str, values: Array, factor: Factor | None) -> tuple[Array, ...]:
        mantissa, exponent = np.frexp(values)
        return (np.ldexp(np.rint(mantissa * 2**self.bits) / np.float32(2**self.bits), exponent),)

    @classmethod
    def passes(cls, choose: Choose) -> Sequence[InPlacePass]:
        return [RoundedPass(choose)]


class RoundedPass(ProductPass):
    def covers(self, spec: object) -> bool:
        return isinstance(spec, Rounded)

    def nodes(
        self, product: ir.Node, weight: ir.TensorProtocol, spec: Rounded, stored: Sequence[ir.Value]
    ) -> tuple[Sequence[ir.Node], Sequence[ir.Value]]:
        return [ir.node("MatMul", [product.inputs[0], *stored], name=product.name)], ()


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SCHEMES, "rounded", Rounded)


def parse(text: str, name: str = "mine") -> Recipe:
    return parse_recipe(text, name, where="here")


def test_a_new_scheme_makes_a_variant(bundle: Path) -> None:
    made = quantize_bundle(bundle, parse(TEXT))
    assert made.verify() == []
    graph = ir.load(bundle / made.manifest.variants["mine"].decoder_step).graph
    assert "model.layers.0.self_attn.q_proj.weight.rounded" in graph.initializers
    assert "model.layers.0.self_attn.v_proj.weight" in graph.initializers
    assert 0 < relative_rms(encoded(bundle, "mine"), encoded(bundle, "fp32")) < 0.05
    assert 0 < relative_rms(logits(bundle, "mine"), logits(bundle, "fp32")) < 0.2
    with Transcriber(bundle, "mine", threads=1) as asr:
        assert asr.transcribe(synthetic_clip(2.5), TranscribeOptions(max_new_tokens=8)).token_ids


def test_its_parts_are_shared_like_any_other(bundle: Path) -> None:
    quantize_bundle(bundle, parse(TEXT))
    other = quantize_bundle(bundle, parse(TEXT.replace("bits = 5", "bits = 4"), "other")).manifest.variants["other"]
    assert other.encoder == "encoder.mine.onnx"
    assert other.decoder_step == "decoder_step.other.onnx"


def test_its_keys_are_checked() -> None:
    with pytest.raises(OptionsError, match=r"\[step\], scheme rounded, has no key 'bit' \(did you mean 'bits'\?\)"):
        parse('[step]\nscheme = "rounded"\nbit = 3')


def test_what_it_needs_of_a_processor_is_in_the_manifest(bundle: Path) -> None:
    quantize_bundle(bundle, parse('[step]\nscheme = "rounded"\nrare = true'))
    body = json.loads((bundle / MANIFEST_FILE).read_text(encoding="utf-8"))
    assert body["variants"]["mine"]["needs"] == ["rare-instructions"]
    with pytest.raises(ProviderError, match="needs rare-instructions, which this version does not know"):
        Transcriber(bundle, "mine")
