from __future__ import annotations

import numpy as np
import pytest

from qwen3_asr_onnx.speech.activity import is_near_silent
from qwen3_asr_onnx.text.answer import heard_speech, lacks_tag
from qwen3_asr_onnx.text.loops import ends_in_loop, is_context_leak, trim_loop

SPEECH = [*range(100, 140)]
RATE = 16_000


def first_alarm(ids: list[int]) -> int | None:
    """Return after how many ids the alarm is raised."""
    return next((n for n in range(1, len(ids) + 1) if ends_in_loop(ids[:n])), None)


@pytest.mark.parametrize(("period", "n_tokens"), [(1, 30), (2, 30), (7, 35), (8, 32), (20, 80), (48, 192)])
def test_a_loop_is_noticed_after_its_fourth_copy_and_thirty_tokens(period: int, n_tokens: int) -> None:
    loop = [*range(period)] * 200
    assert first_alarm(SPEECH + loop) == len(SPEECH) + n_tokens
    assert list(trim_loop(SPEECH + loop[: n_tokens + period // 2])) in (
        SPEECH + loop[:period],
        SPEECH + loop[: n_tokens + period // 2],  # half a copy more: no whole copy ends here
    )


@pytest.mark.parametrize("period", [1, 3, 20])
def test_one_copy_is_kept(period: int) -> None:
    loop = [*range(period)]
    assert list(trim_loop(SPEECH + loop * 40)) == SPEECH + loop
    assert list(trim_loop(loop * 40)) == loop


def test_what_people_say_is_no_loop() -> None:
    rng = np.random.default_rng(0)
    digits = rng.integers(0, 10, 3000).tolist()
    assert first_alarm(digits) is None
    assert first_alarm([5] * 12 + SPEECH + [7] * 29 + SPEECH) is None
    chorus = [*range(20)] * 3
    assert first_alarm(SPEECH + chorus + SPEECH) is None
    assert list(trim_loop(digits)) == digits


@pytest.mark.parametrize(
    ("text", "leaked"),
    [
        ("Maria Gonzales.", True),
        ("maria", True),
        ("王小明", True),
        ("Maria spoke.", False),
        ("王小红", False),
        ("", False),
        ("...", False),
    ],
)
def test_words_of_the_context_on_silence_are_a_leak(text: str, leaked: bool) -> None:
    context = "Names: Maria Gonzales, 王小明"
    assert is_context_leak(text, context, near_silent=True) == leaked
    assert not is_context_leak(text, context, near_silent=False)
    assert not is_context_leak(text, "", near_silent=True)


def test_one_short_sound_is_not_silence() -> None:
    quiet = np.zeros(10 * RATE + 77, np.float32)
    assert is_near_silent(quiet)
    assert is_near_silent(quiet[:0])
    noise = np.random.default_rng(1).normal(0, 1e-4, RATE).astype(np.float32)
    assert is_near_silent(noise)
    assert not is_near_silent(noise + np.sin(np.arange(RATE) / 5).astype(np.float32) * 0.1)
    quiet[RATE : RATE + 1600] = 0.01 * np.sign(np.sin(np.arange(1600) / 5))
    assert not is_near_silent(quiet)


@pytest.mark.parametrize("level_db", [-52, -60, -68])
def test_quiet_speech_is_not_silence_and_quiet_noise_is(level_db: float) -> None:
    noise = (10 ** (level_db / 20) * np.random.default_rng(1).standard_normal(6 * RATE)).astype(np.float32)
    assert is_near_silent(noise)
    syllables = np.repeat(np.random.default_rng(2).choice([0.03, 0.3, 1.0], 40), noise.size // 40)
    assert not is_near_silent(noise * syllables.astype(np.float32))
    one_rustle = noise * np.float32(0.1)
    one_rustle[RATE : RATE + 3_000] *= 10
    assert is_near_silent(one_rustle)


def test_an_offset_or_hum_is_still_silence() -> None:
    hum = np.sin(2 * np.pi * 50 * np.arange(3 * RATE + 77) / RATE).astype(np.float32)
    assert is_near_silent(np.float32(0.2) + 0.1 * hum)
    assert is_near_silent(np.full(100, 0.3, np.float32))


@pytest.mark.parametrize(
    ("raw", "forced", "heard"),
    [
        ("language English<asr_text>Hello", None, True),
        ("language None<asr_text>", None, False),
        ("language None<asr_text>Thank you.", None, False),
        ("Thank you.", None, False),
        ("language English", None, False),
        ("", None, False),
        ("Hello", "English", True),
        (" ", "English", False),
    ],
)
def test_only_the_text_tag_after_a_language_means_speech(raw: str, forced: str | None, heard: bool) -> None:
    assert heard_speech(raw, forced) == heard


@pytest.mark.parametrize(
    ("raw", "forced", "untagged"),
    [
        ("Thank you.", None, True),
        ("language English", None, True),
        ("language English<asr_text>Hello", None, False),
        ("language None<asr_text>", None, False),
        ("language None", None, False),
        ("", None, False),
        ("Hello", "English", False),
    ],
)
def test_what_is_neither_a_transcript_nor_the_claim_of_silence(raw: str, forced: str | None, untagged: bool) -> None:
    assert lacks_tag(raw, forced) == untagged
