"""Weights that hold NaN or infinity end in an error that says so, whoever asks: never in an empty or a wrong text."""

from __future__ import annotations

import json
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from tests.support.clips import synthetic_clip

from qwen3_asr_onnx import Transcriber
from qwen3_asr_onnx.alignment.slots import SlotDecoder
from qwen3_asr_onnx.bundle.manifest import DecoderDims, TimestampHead
from qwen3_asr_onnx.commands import cli
from qwen3_asr_onnx.errors import BundleError
from qwen3_asr_onnx.model.choosing import greedy
from qwen3_asr_onnx.model.embeddings import EmbeddingTable
from qwen3_asr_onnx.model.rescoring import rescore
from qwen3_asr_onnx.options import StreamOptions
from qwen3_asr_onnx.outputs.writers import to_json
from qwen3_asr_onnx.results import Segment, Transcript

MESSAGE = r"{}: the {} that this graph gives are not numbers .* info --verify"


def spoil(path: Path, dtype: str, value: float, places: slice) -> None:
    numbers = np.fromfile(path, dtype=dtype)
    numbers[places] = value
    numbers.tofile(path)


def transcribe(asr: Transcriber) -> None:
    asr.transcribe(synthetic_clip(2.5))


def stream(asr: Transcriber, policy: Any) -> None:
    live = asr.stream(streaming=StreamOptions(policy=policy))
    live.feed(synthetic_clip(2.5), 16_000)
    live.finish()


ASKERS: dict[str, Callable[[Transcriber], None]] = {
    "transcribe": transcribe,
    "stream": lambda asr: stream(asr, "incremental"),
    "official stream": lambda asr: stream(asr, "official"),
}


@pytest.fixture(autouse=True)
def nothing_prepared(monkeypatch: pytest.MonkeyPatch) -> None:
    """What other tests have kept of the intact bundle would be used instead of what is damaged here."""
    monkeypatch.setenv("QWEN3_ASR_WARM_GB", "0")


@pytest.mark.parametrize("asker", ASKERS)
@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize(
    ("file", "dtype", "places", "graph", "what"),
    [
        ("encoder.data", "<f4", slice(-8, None), r"encoder\.onnx", "audio features"),
        ("decoder_weights.data", "<f4", slice(0, 64), r"decoder_init\.onnx", "logits"),
        ("embed_tokens.bin", "<f2", slice(0, None), r"decoder_init\.onnx", "logits"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_damaged_weights_are_named(
    bundle_copy: Path, file: str, dtype: str, places: slice, graph: str, what: str, value: float, asker: str
) -> None:
    spoil(bundle_copy / file, dtype, value, places)
    with Transcriber(bundle_copy, threads=1) as asr, pytest.raises(BundleError, match=MESSAGE.format(graph, what)):
        ASKERS[asker](asr)


def test_the_command_line_fails(bundle_copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spoil(bundle_copy / "decoder_weights.data", "<f4", np.nan, slice(0, None))
    with wave.open(str(tmp_path / "clip.wav"), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes((synthetic_clip(1.0) * 32767).astype("<i2").tobytes())
    assert cli.main(["transcribe", "-m", str(bundle_copy), str(tmp_path / "clip.wav")]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "are not numbers" in err


def test_a_step_that_goes_wrong_later_is_noticed(asr: Transcriber, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row of the table that only a later token reads."""
    rows = EmbeddingTable.rows

    def spoiled(self: EmbeddingTable, ids: Any) -> Any:
        return rows(self, ids) * (np.float32(np.nan) if len(ids) == 1 else np.float32(1))

    monkeypatch.setattr(EmbeddingTable, "rows", spoiled)
    with pytest.raises(BundleError, match=r"decoder_step\.onnx|decoder_init\.onnx"):
        transcribe(asr)


def test_greedy_meets_every_kind_without_a_warning() -> None:
    rows = np.zeros((5, 4), dtype=np.float32)
    rows[0, 2], rows[1, 1], rows[2], rows[3, 3] = np.nan, np.inf, -np.inf, -np.inf
    _, logprobs = greedy(rows)
    assert np.isfinite(logprobs).tolist() == [False, False, False, True, True]


def test_rescoring_does_not_cover_up(tmp_path: Path) -> None:
    (tmp_path / "embed_tokens.bin").write_bytes(np.ones((50, 4), dtype="<f2").tobytes())
    logits = np.zeros((1, 50), dtype=np.float32)
    logits[0, 7] = np.nan
    rescore(logits, np.ones((1, 4), dtype=np.float32), EmbeddingTable(tmp_path / "embed_tokens.bin", 50, 4), 8)
    assert np.isnan(logits).any()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_the_aligner_s_answers_are_checked(tmp_path: Path, value: float) -> None:
    class Fake:
        path = tmp_path / "decoder_init.onnx"

        def bind(self, _inputs: Any, outputs: Any) -> Any:
            outputs["logits"][:] = 0
            outputs["logits"][0, 1] = value

            class Bound:
                def run(self) -> None: ...

            return Bound()

    dims = DecoderDims(1, 8, 8, 1, 1, 8, 10, 1e6, 1e-6, 64)
    decoder = SlotDecoder(cast("Any", Fake()), dims, TimestampHead(5, 80, 9))
    with pytest.raises(BundleError, match=MESSAGE.format("decoder_init.onnx", "logits")):
        decoder.answer(np.zeros((3, 8), dtype=np.float32), np.array([1, 2]))


def test_json_is_json_or_nothing() -> None:
    segment = Segment(0.0, 1.0, "a", "English", (1,), "eos", float("nan"), (float("nan"),))
    transcript = Transcript("a", "English", 1.0, (segment,), None, (1,), "eos", float("nan"))
    with pytest.raises(ValueError, match="JSON compliant"):
        json.loads(to_json(transcript))
