"""Features of the processor, from what systems say about it."""

from __future__ import annotations

from pathlib import Path

import pytest

from qwen3_asr_onnx.model import processor
from qwen3_asr_onnx.model.processor import features_of, processor_features


@pytest.mark.parametrize(
    ("text", "features"),
    [
        ("processor\t: 0\nflags\t\t: fpu avx2 fma avx512_vnni\n", {"vnni"}),
        ("flags : avx2 avx_vnni amx_tile amx_int8\nflags : avx2\n", {"vnni", "amx"}),
        ("flags : avx2 avx512f\n", set()),
        ("flags : avx2\nflags : avx512_vnni\n", set()),  # one is asked: the first
        ("Features\t: fp asimd asimddp i8mm\n", {"dotprod"}),
        ("model name : avx512_vnni amx_int8\n", set()),
        ("hw.optional.arm.FEAT_DotProd: 1\n", {"dotprod"}),
        ("hw.optional.arm.FEAT_DotProd: 0\n", set()),
        ("", set()),
        ("no colon at all", set()),
    ],
)
def test_features(text: str, features: set[str]) -> None:
    assert features_of(text) == features


@pytest.mark.parametrize("system", ["Linux", "Windows"])
def test_a_system_that_does_not_tell(system: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.system", lambda: system)
    monkeypatch.setattr(processor, "CPUINFO", tmp_path / "nowhere")
    assert processor_features.__wrapped__() == frozenset()
