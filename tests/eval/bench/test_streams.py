"""The benchmark of streams: both policies follow its script, so what is timed is the work of a real stream."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from qwen3_asr_onnx import StreamOptions
from qwen3_asr_onnx.model.loading import load_model
from qwen3_asr_onnx_eval.bench.streams import WORDS, measure, scripted, steady_noise_of_speech

TINY = Path(__file__).resolve().parents[2] / "data" / "tiny_bundle"


@pytest.mark.parametrize("policy", ["incremental", "official"])
def test_a_scripted_stream_says_what_the_script_says(policy: Any) -> None:
    with scripted(load_model(TINY, None, "cpu", None), 1) as model:
        seconds, updates = measure(model, StreamOptions(policy=policy), steady_noise_of_speech(20.0))
    assert len(seconds) == 10
    words = "".join(update.committed for update in updates).split()
    assert words[:8] == list(WORDS)
    assert set(words) == set(WORDS)
    tentative = [update.tentative for update in updates if update.tentative]
    assert len(set(tentative)) == len(tentative)
