"""What the stream decoder writes is what greedy decoding from scratch writes, and it does less work for it."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import numpy.typing as npt
import pytest
from tests.support.clips import synthetic_clip

from qwen3_asr_onnx import LimitError, TranscribeOptions
from qwen3_asr_onnx.arrays import SAMPLE_RATE, Waveform
from qwen3_asr_onnx.model.asking import Prompter, hear
from qwen3_asr_onnx.model.decoder import Decoder
from qwen3_asr_onnx.model.loading import Model, load_model
from qwen3_asr_onnx.model.writing import generate
from qwen3_asr_onnx.stream.hypothesis import LOOKAHEAD_SAMPLES, MAX_DRAFT, StreamDecoder

LIMIT = 24
WINDOW_TOKENS = 104  # 8 s


@pytest.fixture(scope="module")
def model(tiny_bundle: Path) -> Model:
    return load_model(tiny_bundle, None, "cpu", None)


@pytest.fixture(scope="module")
def split_model(model: Model) -> Model:
    """The same model as a variant whose prompts have weights of their own: two sessions."""
    real = model.decoder
    init = mock.Mock(wraps=real.init)
    return replace(model, decoder=Decoder(init, real.step, real.embeddings, real.dims, tuple(real.eos)))


@pytest.fixture(scope="module")
def judged_model(split_model: Model) -> Model:
    """The same as a verified variant: prompts and drafts are read by one graph, text is drafted by the other."""
    real = split_model.decoder
    return replace(
        split_model,
        decoder=Decoder(real.init, real.step, real.embeddings, real.dims, tuple(real.eos), verified=True),
    )


@pytest.fixture(scope="module")
def clip() -> Waveform:
    """18 s whose loudest moment is the first: the mel floor is settled before the first window is finished."""
    samples = synthetic_clip(18.0, seed=3) * np.float32(0.5)
    samples[100:900] = np.sign(samples[100:900])
    return samples


def from_scratch(model: Model, audio: Waveform, fixed: Sequence[int] = (), context: str = "") -> tuple[int, ...]:
    """Return what the offline path writes: one encoding, one prompt, one greedy run."""
    (features,), _ = hear(model, [audio])
    prompt = asking(model, context).prompt(len(features))
    ids = np.array([*prompt.ids, *fixed], dtype=np.int64)
    embedded = model.embeddings.splice(ids, features, prompt.audio_start)
    (found,) = generate(model.decoder, [embedded], [LIMIT])
    return found.token_ids


def written(model: Model, features: npt.NDArray[np.float32]) -> tuple[int, ...]:
    """Return what greedy decoding makes of features."""
    prompt = asking(model, "").prompt(len(features))
    (found,) = generate(model.decoder, [model.embeddings.splice(prompt.ids, features, prompt.audio_start)], [LIMIT])
    return found.token_ids


def asking(model: Model, context: str) -> Prompter:
    return Prompter(model, TranscribeOptions(context=context))


def make(model: Model, context: str = "") -> StreamDecoder:
    return StreamDecoder(model, asking(model, context), 30.0, 200)


@pytest.mark.parametrize("name", ["model", "split_model", "judged_model"])
@pytest.mark.parametrize("chunk_s", [2.0, 3.1])
def test_the_same_tokens_as_from_scratch(
    request: pytest.FixtureRequest, clip: Waveform, name: str, chunk_s: float
) -> None:
    model: Model = request.getfixturevalue(name)
    decoder = make(model, "Anna")
    draft: tuple[int, ...] = ()
    chunk = round(chunk_s * SAMPLE_RATE)
    for end in range(chunk, clip.size, chunk):
        audio = clip[: end + LOOKAHEAD_SAMPLES]
        found = decoder.listen(audio, (), draft, LIMIT)
        assert found.token_ids == from_scratch(model, audio, context="Anna")
        assert len(found.logprobs) == len(found.token_ids) + (found.end == "stop_token")
        draft = found.token_ids


def test_after_a_quiet_start_windows_stay_as_they_were_heard(model: Model, clip: Waveform) -> None:
    """Each 8 s louder than those before: the tokens are those of features as of the time each was finished."""
    audio = clip * np.repeat([1e-4, 1e-2, 1.0], [8 * SAMPLE_RATE, 8 * SAMPLE_RATE, clip.size - 16 * SAMPLE_RATE])
    audio = audio.astype(np.float32)
    decoder, finished = make(model), 0
    kept: list[npt.NDArray[np.float32]] = []
    for end_s in (7.5, 9.0, 12.0, 15.9, 17.0, 17.9):
        heard = audio[: round(end_s * SAMPLE_RATE)]
        found = decoder.listen(heard, (), (), LIMIT)
        (features,), _ = hear(model, [heard])
        features = np.concatenate([*kept, features[len(kept) * WINDOW_TOKENS :]])
        assert found.token_ids == written(model, features)
        for window in range(finished, int(end_s // 8)):
            kept.append(features[window * WINDOW_TOKENS : (window + 1) * WINDOW_TOKENS])
            finished += 1
    (whole,), _ = hear(model, [heard])
    assert not np.allclose(whole[:WINDOW_TOKENS], kept[0], atol=1e-3), "a recording cuts more off"
    again = make(model)
    assert again.listen(heard, (), (), LIMIT).token_ids == written(model, whole), "heard at once it is a recording"


def test_fixed_ids_are_kept_and_continued_greedily(model: Model, clip: Waveform) -> None:
    decoder = make(model)
    for end in (5.0, 9.0, 12.0):
        audio = clip[: round(end * SAMPLE_RATE)]
        found = decoder.listen(audio, (40, 41, 42), (50, 51), LIMIT)
        assert found.token_ids == (40, 41, 42, *from_scratch(model, audio, fixed=(40, 41, 42)))


@pytest.mark.parametrize("n_right", [0, 1, 7, LIMIT - 1])
def test_any_draft_gives_the_same_tokens(model: Model, clip: Waveform, n_right: int) -> None:
    expected = from_scratch(model, clip)
    draft = [*expected[:n_right], *((token + 1) % 300 for token in expected[n_right:])]
    found = make(model).listen(clip, (), draft, LIMIT)
    assert found.token_ids == expected
    assert found.n_checked == min(n_right, len(expected))


def test_a_shorter_stretch_goes_back_behind_finished_windows(model: Model, clip: Waveform) -> None:
    decoder = make(model)
    decoder.listen(clip, (), (), LIMIT)
    for end_s in (17.3, 16.0, 8.0, 3.0, 17.9):
        audio = clip[: round(end_s * SAMPLE_RATE)]
        assert decoder.listen(audio, (), (), LIMIT).token_ids == from_scratch(model, audio)


def test_the_next_stretch_starts_afresh(model: Model, clip: Waveform) -> None:
    decoder = make(model)
    decoder.listen(clip, (), (), LIMIT)
    decoder.restart()
    other = clip[9 * SAMPLE_RATE :]
    assert decoder.listen(other, (), (), LIMIT).token_ids == from_scratch(model, other)


def test_finished_windows_and_the_system_turn_are_read_once(model: Model, clip: Waveform) -> None:
    """Frames per encoding and positions per reading stay bounded by one window and the text."""
    counted = counting(model)
    decoder = make(counted)
    draft: tuple[int, ...] = ()
    for end in range(2 * SAMPLE_RATE, clip.size, 2 * SAMPLE_RATE):
        draft = decoder.listen(clip[: end + LOOKAHEAD_SAMPLES], (), draft, 8).token_ids
    frames = [sum(mel.shape[1] for mel in call.args[0]) for call in counted.encoder.encode.call_args_list]
    assert frames == [200, 400, 600, 800] * 2
    positions = [len(call.args[2]) for call in counted.decoder.extend.call_args_list]
    head, *rest = positions
    around = Prompter(model).prompt(1)
    assert head == around.audio_start
    assert max(rest) <= 104 + len(around.ids) - around.audio_start - 1 + 8


def test_a_limit_and_a_watch_end_the_writing(model: Model, clip: Waveform) -> None:
    expected = from_scratch(model, clip)
    assert len(expected) > 20
    assert make(model).listen(clip, (), (), 5).token_ids == expected[:5]
    assert make(model).listen(clip, (), expected, 5).token_ids == expected[:5]
    for draft in ((), expected[:3], expected[:20]):
        found = make(model).listen(clip, (), draft, LIMIT, lambda ids: len(ids) >= 10)
        assert found.end == "watch"
        assert len(found.token_ids) >= 10
        assert found.token_ids == expected[: len(found.token_ids)]


def test_long_drafts_are_checked_in_part(model: Model, clip: Waveform) -> None:
    (features,), _ = hear(model, [clip])
    (expected,) = generate(model.decoder, [Prompter(model).embed(features)], [MAX_DRAFT + 20])
    found = make(model).listen(clip, (), expected.token_ids, MAX_DRAFT + 20)
    assert found.token_ids == expected.token_ids
    assert found.n_checked <= MAX_DRAFT


def test_a_context_that_leaves_no_room_is_refused(model: Model) -> None:
    with pytest.raises(LimitError, match="shorten the context"):
        make(model, "x " * model.manifest.decoder.max_positions)


def counting(model: Model) -> Any:
    """Return the model with calls of its encoder and decoder recorded."""
    encoder = mock.Mock(wraps=model.encoder)
    decoder: Any = copy(model.decoder)
    decoder.extend = mock.Mock(wraps=model.decoder.extend)
    return replace(model, encoder=encoder, decoder=decoder)
