"""The official streaming policy against the official package's own state machine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.conftest import load_golden

from qwen3_asr_onnx import LimitError, StreamOptions, TranscribeOptions, Transcriber
from qwen3_asr_onnx.arrays import Waveform
from qwen3_asr_onnx.model.asking import Prompter
from qwen3_asr_onnx.model.loading import Model, load_model
from qwen3_asr_onnx.stream.official import OfficialPolicy, Written
from qwen3_asr_onnx.text.tokenizer import Tokenizer

CASES: list[dict[str, Any]] = load_golden("official_streams.json")["scripted"]


@pytest.fixture(scope="module")
def model(tiny_bundle: Path, real_tokenizer_json: Path) -> Model:
    """A model that is never run, with the real tokenizer."""
    return replace(load_model(tiny_bundle, None, "cpu", None), tokenizer=Tokenizer.from_file(real_tokenizer_json))


class Script:
    """Writes what the script of a golden says and checks that it is asked what the official model was asked."""

    def __init__(self, steps: list[dict[str, Any]], prompter: Prompter) -> None:
        self._steps = iter(steps)
        self._prompter = prompter

    def write(self, audio: Waveform, prefix: str) -> Written:
        step = next(self._steps)
        prompt = self._prompter.prompt(1, prefix).ids.tolist()
        assert audio.size == step["n_samples"]
        assert step["prompt"].endswith(prefix)
        assert prompt == step["prompt_ids"]
        return Written(step["written"])


@pytest.mark.parametrize("case", CASES, ids=range(len(CASES)))
def test_the_same_prompts_and_texts_as_the_official_package(model: Model, case: dict[str, Any]) -> None:
    options = case["options"]
    prompter = Prompter(model, TranscribeOptions(context=options["context"]), options["language"])
    streaming = StreamOptions(
        policy="official",
        chunk_s=options["chunk_size_sec"],
        unfixed_chunks=options["unfixed_chunk_num"],
        unfixed_tokens=options["unfixed_token_num"],
    )
    policy = OfficialPolicy(model, prompter, streaming, Script(case["steps"], prompter))
    language, text = "", ""
    for size, shown in zip(case["block_sizes"], case["shown"], strict=False):
        for update in policy.feed(np.zeros(size, np.float32)):
            language, text = update.language, update.tentative
            assert not update.committed
        assert [language, text] == shown
    last = None
    for last in policy.finish():
        language, text = last.language, last.committed or last.tentative
    assert [language, text] == case["shown"][-1]
    assert last is None or (last.segment is not None and last.segment.text == text)


def test_a_stream_that_outgrows_the_model_says_so(asr: Transcriber) -> None:
    context = "x " * asr.manifest.decoder.max_positions
    stream = asr.stream(TranscribeOptions(context=context), StreamOptions(policy="official", chunk_s=1))
    with pytest.raises(LimitError, match="start another"):
        stream.feed(np.zeros(16_000, np.float32))
