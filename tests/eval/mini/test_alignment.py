"""The miniature aligner as a bundle: files, command line, windows and transcription, and against its torch self.

What it finds is compared with transformers on the same clips; how good that is, test_aligner.py says.
"""

from __future__ import annotations

import io
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the export extra")
pytest.importorskip("soundfile", reason="needs the audio extra")

import soundfile
from tests.support.traces import traced_once

from mini.language.vocabulary import Vocabulary
from mini.measuring.align import align
from mini.speech.features import log_mel
from mini.training.aligner_task import clean_unit
from mini.training.model import load_original
from qwen3_asr_onnx import AudioLimits, Qwen3AsrError, TranscribeOptions, Transcriber
from qwen3_asr_onnx.alignment.aligner import Aligner, AlignOptions
from qwen3_asr_onnx.arrays import Waveform
from qwen3_asr_onnx.commands.cli import main
from qwen3_asr_onnx.errors import AudioError, BundleError, LimitError, OptionsError
from qwen3_asr_onnx.results import Word
from qwen3_asr_onnx_export.pipeline import export_checkpoint
from qwen3_asr_onnx_quantize.apply import quantize_bundle
from qwen3_asr_onnx_quantize.recipes.recipe import load_recipe

pytestmark = pytest.mark.torch

DATA = Path(__file__).resolve().parents[2] / "data"
CHECKPOINT = DATA / "mini-aligner"
CLIPS = DATA / "mini-clips"
SEGMENT_MS = 80

Row = dict[str, Any]


def rows() -> list[Row]:
    lines = (CLIPS / "manifest.jsonl").read_text(encoding="utf-8").splitlines()
    return [row for row in map(json.loads, lines) if row.get("words")]


SHORT = [row for row in rows() if row["duration_s"] < 10 and "," not in row["language"]]
ENGLISH = next(row for row in SHORT if row["language"] == "English")
STORY = next(row for row in rows() if row["duration_s"] > 60)


def waveform(row: Row) -> Waveform:
    samples, rate = soundfile.read(CLIPS / row["file"], dtype="float32")
    assert rate == 16_000
    return np.asarray(samples, np.float32)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("aligner") / "bundle"
    with traced_once(tmp_path_factory):  # its encoder has the shape of the other miniature's
        export_checkpoint(CHECKPOINT, path)
    quantize_bundle(path, load_recipe("int4"))
    return path


@pytest.fixture(scope="module")
def aligner(bundle: Path) -> Iterator[Aligner]:
    with Aligner(bundle, "fp32") as loaded:
        yield loaded


def assert_ordered(words: tuple[Word, ...], duration_s: float) -> None:
    times = [time for word in words for time in (word.start_s, word.end_s)]
    assert times == sorted(times)
    assert all(0 <= time <= duration_s for time in times)


def test_times_are_those_of_the_torch_model(aligner: Aligner) -> None:
    native, vocabulary = load_original(CHECKPOINT), Vocabulary.load(CHECKPOINT)
    official = AlignOptions(refine=False)
    for row in SHORT:
        found = aligner.align(CLIPS / row["file"], row["text"], row["language"], official)
        expected = align(native, vocabulary, log_mel(waveform(row)), [clean_unit(word[0]) for word in row["words"]])
        times_ms = [round(1000 * time) for word in found for time in (word.start_s, word.end_s)]
        assert [word.text for word in found] == [word[0] for word in row["words"]]
        assert times_ms == expected, row["file"]


def test_int4_moves_boundaries_by_less_than_20_ms(aligner: Aligner, bundle: Path) -> None:
    def errors_ms(model: Aligner) -> float:
        return float(
            np.mean(
                [
                    1000 * abs(time - true)
                    for row in SHORT
                    for word, (_, start_s, end_s) in zip(
                        model.align(CLIPS / row["file"], row["text"], row["language"]), row["words"], strict=True
                    )
                    for time, true in ((word.start_s, start_s), (word.end_s, end_s))
                ]
            )
        )

    with Aligner(bundle, "int4") as quantized:
        assert abs(errors_ms(quantized) - errors_ms(aligner)) < 20


def test_a_list_gives_what_each_gives_alone(aligner: Aligner) -> None:
    found = aligner.align_many(
        [CLIPS / row["file"] for row in SHORT],
        [row["text"] for row in SHORT],
        [row["language"] for row in SHORT],
    )
    assert found == [aligner.align(CLIPS / row["file"], row["text"], row["language"]) for row in SHORT]


@pytest.mark.parametrize("window_s", [8.0, 20.0, 180.0])
def test_long_audio_loses_no_word(aligner: Aligner, window_s: float) -> None:
    words = aligner.align(CLIPS / STORY["file"], STORY["text"], "English", AlignOptions(max_window_s=window_s))
    assert [word.text for word in words] == STORY["text"].split()
    assert_ordered(words, STORY["duration_s"])


def test_text_of_something_else_is_flagged_and_ordered(aligner: Aligner) -> None:
    right = aligner.align(CLIPS / ENGLISH["file"], ENGLISH["text"], "English")
    wrong = aligner.align(CLIPS / ENGLISH["file"], "seven blue trains sang under marble hills yesterday", "English")
    assert_ordered(wrong, ENGLISH["duration_s"])
    assert np.mean([word.probability for word in wrong]) < np.mean([word.probability for word in right])


def test_a_text_of_another_length_is_noticed(aligner: Aligner) -> None:
    """Of a text of the right length the miniature is as sure as of the right one: no test of it could pass."""
    fits = [aligner.align(CLIPS / row["file"], row["text"], row["language"]) for row in SHORT]
    assert not [word for words in fits for word in words if "text_mismatch" in word.flags]
    too_long = aligner.align(CLIPS / ENGLISH["file"], " ".join(STORY["text"].split()[:40]), "English")
    too_short = aligner.align(CLIPS / STORY["file"], ENGLISH["text"], "English")
    assert all("text_mismatch" in word.flags for word in (*too_long, *too_short))


def test_one_warning_for_a_text_that_does_not_fit(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    audio, text = str(CLIPS / ENGLISH["file"]), " ".join(STORY["text"].split()[:40])
    assert main(["align", "-m", str(bundle), audio, text, "-l", "en", "-q"]) == 0
    (warning,) = capsys.readouterr().err.splitlines()
    assert "warning: the text does not seem to be what is said: " in warning
    assert "words have no place of their own, median probability 0." in warning
    assert main(["align", "-m", str(bundle), audio, ENGLISH["text"], "-l", "en", "-q"]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("text", "language"), [("今天天气很好", "English"), ("hello there", "Chinese"), ("Привет, мир", "German")]
)
def test_another_script_is_aligned(aligner: Aligner, text: str, language: str) -> None:
    words = aligner.align(CLIPS / ENGLISH["file"], text, language)
    assert "".join(word.text for word in words) == text.replace(" ", "")
    assert_ordered(words, ENGLISH["duration_s"])


@pytest.mark.parametrize("text", ["", "  \n", "…?!", "🎉"])
def test_a_text_without_words_gives_none(aligner: Aligner, text: str) -> None:
    assert aligner.align(CLIPS / ENGLISH["file"], text, "English") == ()


@pytest.mark.parametrize("language", [None, "", " "])
def test_a_missing_language_is_named(aligner: Aligner, language: str | None) -> None:
    with pytest.raises(OptionsError, match=r"must know the language.*Chinese, English, German"):
        aligner.align(CLIPS / ENGLISH["file"], "hi", language)


def test_an_unknown_language_is_refused_with_the_list(aligner: Aligner) -> None:
    with pytest.raises(OptionsError, match=r"Finnish.*Chinese, English, German"):
        aligner.align(CLIPS / ENGLISH["file"], "hei", "fi")


@pytest.mark.parametrize("n_samples", [1, 100, 159, 400])
def test_audio_shorter_than_a_frame_holds_its_words(aligner: Aligner, n_samples: int) -> None:
    words = aligner.align(np.full(n_samples, 0.1, np.float32), "one two", "English")
    assert_ordered(words, n_samples / 16_000)
    assert [word.text for word in words] == ["one", "two"]


def test_no_audio_at_all_is_an_error(aligner: Aligner) -> None:
    with pytest.raises(AudioError, match=r"no samples.*2 words"):
        aligner.align(np.empty(0, np.float32), "one two", "English")


def test_more_words_than_positions_are_refused(aligner: Aligner) -> None:
    with pytest.raises(LimitError, match=r"words for 1\.0 s"):
        aligner.align(np.zeros(16_000, np.float32), "word " * 4000, "English")


def test_lists_of_different_lengths_are_refused(aligner: Aligner) -> None:
    with pytest.raises(OptionsError, match="1 audios, 2 texts"):
        aligner.align_many([CLIPS / ENGLISH["file"]], ["a", "b"], "English")


def test_options_may_be_keywords_and_nothing_else(aligner: Aligner) -> None:
    clip, text = waveform(ENGLISH), ENGLISH["text"]
    plain = aligner.align(clip, text, "English", AlignOptions(refine=False))
    assert aligner.align(clip, text, "English", refine=False) == plain
    assert aligner.align_many([clip], [text], "English", refine=False) == [plain]
    with pytest.raises(OptionsError, match="did you mean refine"):
        aligner.align(clip, text, "English", refined=False)
    with pytest.raises(OptionsError, match=r"the options are a dict; give AlignOptions\(\*\*options\)"):
        aligner.align(clip, text, "English", {"refine": False})  # type: ignore[arg-type]


def test_limits_given_once_hold_in_every_call_and_closing_ends_them(bundle: Path) -> None:
    one = Aligner(bundle, "fp32", limits=AudioLimits(max_duration_s=0.5, allow_url=False, allow_path=False))
    with pytest.raises(LimitError, match="over the limit of"):
        one.align(waveform(ENGLISH), ENGLISH["text"], "English")
    for text in ("http://127.0.0.1:9/x.wav", str(CLIPS / ENGLISH["file"])):
        with pytest.raises(AudioError, match="not accepted here"):
            one.align(text, ENGLISH["text"], "English")
    one.close()
    one.close()
    with pytest.raises(Qwen3AsrError, match="this aligner was closed"):
        one.align(waveform(ENGLISH)[:1600], ENGLISH["text"], "English")


def test_bundles_of_the_wrong_kind_are_refused_by_name(bundle: Path, mini_bundle: Path) -> None:
    with pytest.raises(BundleError, match="an aligner bundle cannot transcribe"):
        Transcriber(bundle)
    with pytest.raises(BundleError, match="an asr bundle cannot align"):
        Aligner(mini_bundle)


def test_word_times_of_a_transcription(mini_bundle: Path, aligner: Aligner) -> None:
    options = TranscribeOptions(timestamps="word", max_segment_s=8)
    with Transcriber(mini_bundle, aligner=aligner) as asr:
        transcript = asr.transcribe(CLIPS / STORY["file"], options)
        untimed = asr.transcribe(CLIPS / ENGLISH["file"])
    assert transcript.words
    assert len(transcript.segments) > 5
    assert_ordered(transcript.words, transcript.duration_s)
    assert " ".join(word.text for word in transcript.words).split() == transcript.text.split()
    for segment in transcript.segments:
        low_s, high_s = segment.start_s - 0.001, segment.end_s + 0.001  # words have whole milliseconds
        assert all(low_s <= word.start_s <= word.end_s <= high_s for word in segment.words or ())
    assert untimed.words is None
    assert all(segment.phrases is None for segment in transcript.segments)
    assert all(segment.phrases for segment in untimed.segments)


def test_word_times_need_an_aligner(mini_bundle: Path) -> None:
    with Transcriber(mini_bundle) as asr, pytest.raises(OptionsError, match=r"aligner=Aligner\(\)"):
        asr.transcribe(CLIPS / ENGLISH["file"], TranscribeOptions(timestamps="word"))


def test_align_on_the_command_line(bundle: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    audio, text = str(CLIPS / ENGLISH["file"]), tmp_path / "text.txt"
    text.write_text(ENGLISH["text"], encoding="utf-8")

    assert main(["align", "-m", str(bundle), audio, str(text), "-l", "en", "-q"]) == 0
    header, *lines = capsys.readouterr().out.splitlines()
    assert header == "start\tend\tprobability\ttext"
    assert [line.split("\t")[3] for line in lines] == ENGLISH["text"].split()

    saved = ["-o", str(tmp_path / "words.json")]
    assert main(["align", "-m", str(bundle), audio, ENGLISH["text"], "-l", "en", *saved]) == 0
    body = json.loads((tmp_path / "words.json").read_text(encoding="utf-8"))
    assert [word["text"] for word in body["words"]] == ENGLISH["text"].split()
    assert {"start_s", "end_s", "probability", "flags", "unit"} <= set(body["words"][0])
    assert capsys.readouterr().out == ""

    for name in ("srt", "vtt"):
        assert main(["align", "-m", str(bundle), audio, ENGLISH["text"], "-l", "en", "-f", name, "-q"]) == 0
        shown = " ".join(capsys.readouterr().out.split())
        assert "-->" in shown
        assert all(word in shown for word in ENGLISH["text"].split())


def test_align_reads_the_text_from_stdin(
    bundle: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(ENGLISH["text"]))
    assert main(["align", "-m", str(bundle), str(CLIPS / ENGLISH["file"]), "-", "-l", "en", "-q"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1 + len(ENGLISH["text"].split())


@pytest.mark.parametrize(
    ("arguments", "said", "status"),
    [
        (["no.wav", "hi", "-l", "en"], "no.wav", 1),
        (["AUDIO", "no.txt", "-l", "en"], "no such file", 2),
        (["AUDIO", "hi"], "must know the language", 2),
        (["AUDIO", "hi", "-l", "fi"], "Finnish", 2),
        (["AUDIO", "hi", "-l", "en", "-o", "x.doc"], "no format", 2),
        (["AUDIO", "hi", "-l", "en", "--variant", "int3"], "int3", 2),
        (["AUDIO", "...", "-l", "en"], "no words", 0),
    ],
)
def test_align_with_wrong_arguments(
    bundle: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str, status: int
) -> None:
    given = [str(CLIPS / ENGLISH["file"]) if argument == "AUDIO" else argument for argument in arguments]
    assert main(["align", "-m", str(bundle), *given]) == status
    assert said in capsys.readouterr().err


def test_transcribe_with_words_on_the_command_line(
    bundle: Path, mini_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    audio = str(CLIPS / ENGLISH["file"])
    given = ["transcribe", "-m", str(mini_bundle), audio, "-f", "json", "-q"]
    assert main([*given, "--timestamps", "word", "--aligner", str(bundle)]) == 0
    body = json.loads(capsys.readouterr().out)
    assert [word["text"] for word in body["words"]] == body["text"].split()
    assert all("words" not in segment for segment in body["segments"])
    assert main([*given, "--aligner", str(bundle)]) == 2
    assert "add --timestamps word" in capsys.readouterr().err
    assert main([*given, "--timestamps", "word", "--aligner", str(mini_bundle)]) == 2
    assert "an asr bundle cannot align" in capsys.readouterr().err


def test_windows_of_a_story_follow_each_other(aligner: Aligner) -> None:
    words = aligner.align(CLIPS / STORY["file"], STORY["text"], "English", AlignOptions(max_window_s=10))
    assert all(one.end_s <= other.start_s for one, other in itertools.pairwise(words))
