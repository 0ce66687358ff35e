from __future__ import annotations

import argparse
import errno
import io
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from qwen3_asr_onnx.commands import cli, delivery
from qwen3_asr_onnx.commands import transcribe as transcribe_command
from qwen3_asr_onnx.errors import AudioError, BundleError, MissingExtra, OptionsError, ProviderError
from qwen3_asr_onnx.options import TranscribeOptions
from qwen3_asr_onnx.outputs.saving import write_atomically
from qwen3_asr_onnx.outputs.writers import FORMATS
from qwen3_asr_onnx.results import Segment, StopReason, Timings, Transcript
from qwen3_asr_onnx.transcription.journal import Journal, Place
from qwen3_asr_onnx.transcription.recording import INPUT_ERRORS


def transcript(text: str, *stop_reasons: StopReason) -> Transcript:
    """Return a transcript with a segment of 2 s for each reason; the text is that of the first."""
    reasons = stop_reasons or ("eos",)
    segments = tuple(
        Segment(2.0 * i, 2.0 * i + 2.0, "" if i else text, "English", (7,), reason, -0.1)
        for i, reason in enumerate(reasons)
    )
    return Transcript(text, "English", 2.0 * len(reasons), segments, None, (7,), reasons[-1], -0.1)


def keep_finished(journal: Journal, result: Transcript) -> None:
    """Do to a journal what the library does."""
    journal.begin({"input": None})
    if result.stop_reason in delivery.PARTIAL:
        for segment in result.segments:
            if segment.stop_reason not in delivery.PARTIAL:
                journal.keep(Place(round(segment.start_s * 16_000), 32_000, "0" * 64), [segment])


@dataclass
class FakeTranscriber:
    """Says the name of each file; `results` overrides what a name gives or raises."""

    results: dict[str, Transcript | BaseException] = field(default_factory=dict)
    heard: list[str] = field(default_factory=list)
    options: list[TranscribeOptions] = field(default_factory=list)
    closed: bool = False

    def transcribe(self, audio: object, options: TranscribeOptions) -> Transcript:
        name = Path(str(audio)).name
        self.heard.append(name)
        self.options.append(options)
        result = self.results.get(name, transcript(f"text of {name}"))
        if isinstance(result, BaseException):
            raise result
        return result

    def transcribe_many(
        self,
        audios: Iterable[object],
        options: Sequence[TranscribeOptions],
        *,
        errors: str,
        progress: Callable[[float], object],
        on_segment: Callable[[Segment], object] | None,
        cancel: threading.Event,
        journals: Iterable[Journal],
    ) -> Iterator[Transcript | Exception]:
        assert errors == "return"
        for audio, own, journal in zip(audios, options, journals, strict=True):
            try:
                result = self.transcribe(audio, own)
            except INPUT_ERRORS as error:
                yield error
            else:
                keep_finished(journal, result)
                if on_segment is not None:
                    for segment in result.segments:
                        on_segment(segment)
                yield result
            if cancel.is_set():
                return
            progress(2.0)

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeTranscriber:
    transcriber = FakeTranscriber()
    monkeypatch.setattr(transcribe_command, "load_transcriber", lambda args: transcriber)
    return transcriber


@pytest.fixture
def audio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a.wav, b.wav and sub/c.wav; the current directory."""
    folder = tmp_path / "audio"
    (folder / "sub").mkdir(parents=True)
    for name in ("a.wav", "b.wav", "sub/c.wav"):
        (folder / name).write_bytes(b"audio")
    monkeypatch.chdir(folder)
    return folder


def transcribe(*arguments: str) -> int:
    return cli.main(["transcribe", "-m", "bundle", *arguments])


def results_in(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8")
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix != ".wav"
    }


# --- subtitles without an aligner ---


@pytest.mark.parametrize(
    ("arguments", "n_hints"),
    [
        (["-f", "srt"], 1),
        (["-f", "vtt,txt"], 1),
        (["-f", "txt,json,tsv"], 0),
        (["-f", "srt", "--no-estimate"], 0),
        (["-f", "srt", "--quiet"], 0),
        (["-f", "srt", "--timestamps", "word"], 0),
    ],
)
def test_one_hint_for_all_files_says_that_times_are_estimated(
    fake: FakeTranscriber, audio: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], n_hints: int
) -> None:
    assert transcribe("a.wav", "b.wav", "-o", "out", *arguments) == 0
    assert capsys.readouterr().err.count("hint: subtitle times are estimated") == n_hints


def test_no_hint_where_nothing_is_left_to_do(
    fake: FakeTranscriber, audio: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert transcribe("a.wav", "--save", "-f", "srt") == 0
    assert "hint" in capsys.readouterr().err
    assert transcribe("a.wav", "--save", "--resume", "-f", "srt") == 0
    assert "hint" not in capsys.readouterr().err


# --- results on stdout ---


def test_one_input_prints_its_text_and_nothing_else(
    fake: FakeTranscriber, audio: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert transcribe("a.wav") == 0
    assert capsys.readouterr() == ("text of a.wav\n", "")
    assert fake.closed


def test_several_inputs_print_under_their_names(
    fake: FakeTranscriber, audio: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert transcribe("b.wav", "a.wav") == 0
    assert capsys.readouterr().out == "==> b.wav <==\ntext of b.wav\n\n==> a.wav <==\ntext of a.wav\n"


def test_json_on_stdout_is_one_object_per_input(
    fake: FakeTranscriber, audio: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert transcribe("--format", "json", "a.wav", "sub") == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(row["input"], row["text"]) for row in rows] == [
        ("a.wav", "text of a.wav"),
        (os.path.join("sub", "c.wav"), "text of c.wav"),  # noqa: PTH118 - as printed on any system
    ]


@pytest.mark.parametrize("name", ["srt", "vtt", "tsv"])
def test_subtitles_of_one_input_go_to_stdout(
    fake: FakeTranscriber, audio: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    assert transcribe("a.wav", "-f", name) == 0
    assert "text of a.wav" in capsys.readouterr().out


def test_stdin_and_urls_reach_the_transcriber(
    fake: FakeTranscriber, audio: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert transcribe("-", "https://example.com/x.mp3", "data:audio/wav;base64,AA==", "-f", "json") == 0
    assert fake.heard == ["-", "x.mp3", "wav;base64,AA=="]


def test_silence_prints_nothing(fake: FakeTranscriber, audio: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fake.results["a.wav"] = replace(transcript(""), stop_reason="no_speech")
    assert transcribe("a.wav") == 0
    assert capsys.readouterr() == ("", "")


# --- results in files ---


def test_files_in_several_formats(fake: FakeTranscriber, audio: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert transcribe(".", "--output-dir", "../out", "--format", "txt,SRT", "-f", "json") == 0
    files = results_in(audio.parent / "out")
    assert list(files) == [f"{stem}.{suffix}" for stem in ("a", "b", "sub/c") for suffix in ("json", "srt", "txt")]
    assert files["sub/c.txt"] == "text of c.wav\n"
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.splitlines()[-1] == "qwen3-asr-onnx: 3 transcribed"


def test_all_formats_and_the_input_s_name_in_json(fake: FakeTranscriber, audio: Path) -> None:
    assert transcribe("sub/c.wav", "--save", "-f", "all", "-q") == 0
    files = results_in(audio)
    assert list(files) == [f"sub/c.{name}" for name in sorted(FORMATS)]
    assert next(iter(json.loads(files["sub/c.json"]).items())) == ("input", "sub/c.wav")


def test_inputs_that_differ_in_their_extension_only(
    fake: FakeTranscriber, audio: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a.mp3", "b.flac", "B.opus"):
        (audio / name).write_bytes(b"audio")
    assert transcribe(".", "--save") == 2
    assert capsys.readouterr().err == (
        "qwen3-asr-onnx: error: a.mp3 and a.wav would both write a.txt; add --keep-extension, or transcribe them "
        "separately\n  b.flac and b.wav would both write b.txt\n"
    )
    assert transcribe(".", "--save", "--keep-extension", "-q") == 0
    assert list(results_in(audio))[0:2] == ["B.opus", "B.opus.txt"]
    assert {"a.mp3.txt", "a.wav.txt", "b.flac.txt", "b.wav.txt"} <= set(results_in(audio))
    assert transcribe("sub", "-o", "out", "--keep-extension", "-q") == 0
    assert list(results_in(audio / "out")) == ["c.wav.txt"]


def test_save_writes_next_to_the_input(fake: FakeTranscriber, audio: Path) -> None:
    assert transcribe("sub/c.wav", "--save", "--quiet") == 0
    assert results_in(audio) == {"sub/c.txt": "text of c.wav\n"}


def test_resume_does_only_what_is_missing(
    fake: FakeTranscriber, audio: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (audio / "a.txt").write_text("kept")
    assert transcribe(".", "--save", "--resume") == 0
    assert fake.heard == ["b.wav", "c.wav"]
    assert (audio / "a.txt").read_text() == "kept"
    assert capsys.readouterr().err == "qwen3-asr-onnx: 2 transcribed, 1 skipped (done before)\n"


def test_resume_with_nothing_to_do_does_not_load_the_bundle(
    audio: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(transcribe_command, "load_transcriber", lambda args: pytest.fail("loaded"))
    (audio / "a.txt").write_text("kept")
    assert transcribe("a.wav", "--save", "--resume") == 0
    assert "0 transcribed, 1 skipped" in capsys.readouterr().err


def test_overwrite_does_all_again(fake: FakeTranscriber, audio: Path) -> None:
    (audio / "a.txt").write_text("old")
    assert transcribe("a.wav", "--save", "--overwrite") == 0
    assert (audio / "a.txt").read_text() == "text of a.wav\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a.wav", "--save"], "a.txt exists; --resume"),
        (["a.wav", "sub/a.wav", "--output-dir", "out"], "would both write"),
        (["-", "--save"], "use --output-dir"),
        (["-", "-"], "read only once"),
        (["a.wav", "--times", "-f", "srt"], "--times is for plain text; add --format txt"),
        (["a.wav", "--overwrite"], "add --output-dir or --save"),
        (["a.wav", "--keep-extension"], "--keep-extension is about output files; add --output-dir or --save"),
        (["a.wav", "-f", "all"], "stdout takes one format"),
        (["a.wav", "-f", "txt,srt"], "stdout takes one format"),
        (["a.wav", "b.wav", "-f", "srt"], "of one input only"),
        (["a.wav", "--output-dir", "b.wav"], "is not a directory"),
        (["a.wav", "--max-new-tokens", "0"], "max_new_tokens"),
        (["a.wav", "--max-segment-seconds", "nan"], "max_segment_s"),
        (["a.wav", "--batch-size", "0"], "batch_size"),
        (["a.wav", "--context-file", "nowhere.txt"], "--context-file nowhere.txt"),
        (["a.wav", "--context-file", "latin1.txt"], "--context-file latin1.txt"),
    ],
)
def test_wrong_options_exit_2_before_anything_is_done(
    audio: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.setattr(transcribe_command, "load_transcriber", lambda args: pytest.fail("loaded"))
    (audio / "a.txt").write_text("kept")
    (audio / "sub/a.wav").write_bytes(b"")
    (audio / "latin1.txt").write_bytes("Zoë".encode("latin-1"))
    assert transcribe(*arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("qwen3-asr-onnx: error: ")
    assert message in err
    assert err.count("\n") == 1
    assert (audio / "a.txt").read_text() == "kept"


@pytest.mark.parametrize(
    "arguments",
    [
        ["a.wav", "--format", "doc"],
        ["a.wav", "--format", "txt,"],
        ["a.wav", "--threads", "0"],
        ["a.wav", "--threads", "many"],
        ["a.wav", "--save", "--output-dir", "out"],
        ["a.wav", "--save", "--resume", "--overwrite"],
        ["a.wav", "--context", "x", "--context-file", "y"],
        ["a.wav", "--nonsense"],
    ],
)
def test_wrong_usage_exits_2(audio: Path, capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        transcribe(*arguments)
    assert caught.value.code == 2
    assert capsys.readouterr().out == ""


# --- options reach the library ---


def test_options_default_to_the_library_s(fake: FakeTranscriber, audio: Path) -> None:
    transcribe("a.wav")
    assert fake.options == [TranscribeOptions()]


def test_options_are_passed_on(fake: FakeTranscriber, audio: Path) -> None:
    (audio / "names.txt").write_bytes("\ufeffKraków, Łódź\n".encode())
    transcribe(
        *("a.wav", "--language", "pl", "--context-file", "names.txt", "--max-new-tokens", "99"),
        *("--max-segment-seconds", "20", "--batch-size", "2", "--split", "vad", "--time-limit", "7.5"),
    )
    assert fake.options == [TranscribeOptions("pl", "Kraków, Łódź", "none", 99, 20.0, 2, "vad", 7.5)]


def test_verbose_says_where_the_time_went(
    fake: FakeTranscriber, audio: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    timings = Timings(load_s=1.5, audio_s=0.1, mel_s=0.02, encoder_s=0.25, prefill_s=0.2, decode_s=0.5, n_tokens=20)
    fake.results["a.wav"] = replace(transcript("Hello."), timings=timings)
    transcribe("a.wav", "--verbose")
    assert capsys.readouterr().err == (
        "qwen3-asr-onnx: a.wav: 2.0 s of audio, 1 segments, 20 tokens; load 1.50 s, audio 0.10 s, mel 0.02 s, "
        "encoder 0.25 s, prefill 0.20 s, decode 0.50 s (40.0 tokens/s); RTF 0.535\n"
    )


def test_every_limit_is_told(fake: FakeTranscriber, audio: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reasons: list[StopReason] = ["repetition", "context_leak", "length"]
    segments = tuple(transcript("x", reason).segments[0] for reason in reasons)
    fake.results["a.wav"] = replace(transcript("x", "length"), segments=segments)
    fake.results["b.wav"] = replace(
        transcript("x"), segments=tuple(replace(segment, retried=True, stop_reason="eos") for segment in segments[:2])
    )
    assert transcribe("a.wav", "b.wav", "--quiet") == 0
    told = capsys.readouterr().err.splitlines()
    assert [re.sub(r"^qwen3-asr-onnx: warning: ", "", line)[:30] for line in told] == [
        "a.wav: the token limit was rea",
        "a.wav: the model repeated itse",
        "a.wav: near-silent audio gave ",
        "b.wav: the model repeated itse",
    ]
    assert "in two halves" in told[-1]


def test_an_answer_that_is_no_transcript_is_told_with_its_beginning(
    fake: FakeTranscriber, audio: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    piece = replace(transcript("", "no_tag").segments[0], token_ids=tuple(range(100, 120)))
    fake.results["a.wav"] = replace(transcript("", "no_tag"), segments=(piece, replace(piece, start_s=2.0), piece))
    fake.results["b.wav"] = replace(transcript("", "no_tag"), segments=(replace(piece, token_ids=(7, 8)),))
    assert transcribe("a.wav", "b.wav", "--quiet") == 0
    first, second = capsys.readouterr().err.splitlines()
    assert "warning: a.wav: 0.0 to 2.0 s (and 2 more): the model's answer is no transcript and was dropped" in first
    assert "token ids 100, 101, 102, 103, 104, 105, 106, 107, ... Is the bundle whole?" in first.replace("....", "...")
    assert "b.wav: 0.0 to 2.0 s: the model's" in second
    assert "token ids 7, 8. Is" in second


# --- the time limit ---


def test_what_is_finished_of_an_input_is_kept_until_the_whole_is_there(
    fake: FakeTranscriber, audio: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.results["b.wav"] = transcript("The first half", "eos", "eos", "time_limit")
    assert transcribe("a.wav", "b.wav", "sub/c.wav", "--save", "--time-limit", "5") == 1
    assert list(results_in(audio)) == ["a.txt", "b.partial.jsonl", "sub/c.txt"]
    assert "The first half" in results_in(audio)["b.partial.jsonl"]
    assert (
        "error: b.wav: the time limit was reached; 4.0 s of it are done and kept in b.partial.jsonl, "
        "--resume goes on from there\n"
    ) in capsys.readouterr().err
    del fake.results["b.wav"]
    fake.heard.clear()
    assert transcribe("b.wav", "--save") == 2, "what is kept is not forgotten by mistake"
    assert "b.partial.jsonl exists; --resume keeps what is there" in capsys.readouterr().err
    assert transcribe("a.wav", "b.wav", "sub/c.wav", "--save", "--resume") == 0
    assert fake.heard == ["b.wav"]
    assert list(results_in(audio)) == ["a.txt", "b.txt", "sub/c.txt"]


def test_overwriting_forgets_what_was_kept(fake: FakeTranscriber, audio: Path) -> None:
    fake.results["a.wav"] = transcript("The first half", "eos", "eos", "time_limit")
    assert transcribe("a.wav", "--save") == 1
    fake.results["a.wav"] = transcript("Other", "eos", "time_limit")
    assert transcribe("a.wav", "--save", "--overwrite") == 1
    assert results_in(audio)["a.partial.jsonl"].count("\n") == 2
    assert "Other" in results_in(audio)["a.partial.jsonl"]


def test_a_partial_result_on_stdout_fails_the_run(
    fake: FakeTranscriber, audio: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.results["a.wav"] = transcript("The first half", "time_limit")
    assert transcribe("a.wav") == 1
    output = capsys.readouterr()
    assert output.out == "The first half\n"
    assert (
        "error: a.wav: the time limit was reached; the text up to 0.0 s and fragments up to 2.0 s are shown\n"
    ) in output.err
    fake.results["a.wav"] = transcript("The first half", "eos", "time_limit")
    assert transcribe("a.wav") == 1
    assert (
        "the text up to 2.0 s and fragments up to 4.0 s are shown; 2.0 s are done and kept, --resume goes on from there"
    ) in capsys.readouterr().err
    del fake.results["a.wav"]
    assert transcribe("a.wav") == 0


def test_inputs_the_time_did_not_suffice_for_are_named(
    fake: FakeTranscriber, audio: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    everything = FakeTranscriber.transcribe_many

    def only_one(self: FakeTranscriber, *args: Any, **kwargs: Any) -> Iterator[Transcript | Exception]:
        return itertools.islice(everything(self, *args, **kwargs), 1)

    monkeypatch.setattr(FakeTranscriber, "transcribe_many", only_one)
    assert transcribe("a.wav", "b.wav", "sub/c.wav", "--save") == 1
    assert results_in(audio) == {"a.txt": "text of a.wav\n"}
    assert capsys.readouterr().err.count("not begun: the time limit was reached") == 2


# --- failures ---


def test_a_failed_input_is_reported_at_once_and_the_others_are_done(
    fake: FakeTranscriber, audio: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.results["b.wav"] = AudioError("b.wav: not audio;\nre-encode it")
    assert transcribe("a.wav", "missing.wav", "b.wav", "sub/c.wav", "--save") == 1
    assert list(results_in(audio)) == ["a.txt", "sub/c.txt"]
    assert capsys.readouterr().err.splitlines() == [
        "qwen3-asr-onnx: error: missing.wav: no such file or directory",
        "qwen3-asr-onnx: error: b.wav: not audio; re-encode it",
        "qwen3-asr-onnx: 2 transcribed, 2 failed",
        "qwen3-asr-onnx: 2 of 4 inputs failed:",
        "  missing.wav",
        "  b.wav",
    ]


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (PermissionError(errno.EACCES, "Permission denied", "a.wav"), "a.wav: Permission denied"),
        (OSError("odd"), "a.wav: odd"),
        (MissingExtra("pip install 'qwen3-asr-onnx[audio]'"), "a.wav: pip install 'qwen3-asr-onnx[audio]'"),
    ],
)
def test_the_only_input_fails_in_one_line(
    fake: FakeTranscriber, audio: Path, capsys: pytest.CaptureFixture[str], error: Exception, line: str
) -> None:
    fake.results["a.wav"] = error
    assert transcribe("a.wav") == 1
    assert capsys.readouterr() == ("", f"qwen3-asr-onnx: error: {line}\n")


@pytest.mark.parametrize("error", [OptionsError("unknown language"), ProviderError("no cuda"), BundleError("damaged")])
def test_an_error_about_the_whole_run_ends_it(
    fake: FakeTranscriber, audio: Path, capsys: pytest.CaptureFixture[str], error: Exception
) -> None:
    fake.results["a.wav"] = error
    assert transcribe(".") == 2
    assert fake.heard == ["a.wav"]
    assert capsys.readouterr().err == f"qwen3-asr-onnx: error: {error}\n"


def test_a_bundle_that_is_none_exits_2(audio: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert transcribe("a.wav") == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("qwen3-asr-onnx: error: bundle")
    assert err.count("\n") == 1


def test_an_unexpected_error_keeps_its_traceback_and_the_finished_files(fake: FakeTranscriber, audio: Path) -> None:
    fake.results["b.wav"] = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        transcribe(".", "--save")
    assert list(results_in(audio)) == ["a.txt"]


def test_a_full_disk_stops_the_run(
    fake: FakeTranscriber, audio: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(path: Path, text: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(delivery, "write_atomically", full)
    assert transcribe(".", "--save") == 1
    assert fake.heard == ["a.wav"]
    out, err = capsys.readouterr()
    assert "a.wav: result not saved: No space left on device" in err
    assert err.count("not begun: the disk is full") == 2
    assert out == "==> a.wav <==\ntext of a.wav\n", "it took hours, perhaps"


def test_a_result_that_cannot_be_saved_fails_its_input_only(
    fake: FakeTranscriber, audio: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def sometimes(path: Path, text: str) -> None:
        if path.name == "b.txt":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        write_atomically(path, text)

    monkeypatch.setattr(delivery, "write_atomically", sometimes)
    assert transcribe(".", "--save") == 1
    assert list(results_in(audio)) == ["a.txt", "sub/c.txt"]
    out, err = capsys.readouterr()
    assert "error: b.wav: result not saved: b.txt: Permission denied\n" in err
    assert out == "==> b.wav <==\ntext of b.wav\n"


@pytest.mark.parametrize("reason", ["length", "repetition"])
def test_doubtful_results_are_kept_with_a_warning(
    fake: FakeTranscriber, audio: Path, capsys: pytest.CaptureFixture[str], reason: StopReason
) -> None:
    fake.results["a.wav"] = transcript("so far", reason)
    assert transcribe("a.wav") == 0
    out, err = capsys.readouterr()
    assert out == "so far\n"
    assert err.startswith("qwen3-asr-onnx: warning: a.wav: ")
    assert err.count("\n") == 1


def test_warnings_of_the_library_become_one_line(
    fake: FakeTranscriber, audio: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def truncated(audio: object, options: TranscribeOptions, **_: object) -> Transcript:
        warnings.warn("a.wav: the file is cut", stacklevel=1)
        return transcript("half")

    monkeypatch.setattr(fake, "transcribe", truncated)
    assert transcribe("a.wav") == 0
    assert capsys.readouterr() == ("half\n", "qwen3-asr-onnx: warning: a.wav: the file is cut\n")


# --- interruption ---


def test_ctrl_c_while_loading(audio: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def load(args: argparse.Namespace) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(transcribe_command, "load_transcriber", load)
    assert transcribe("a.wav") == 130
    assert capsys.readouterr().err == "qwen3-asr-onnx: interrupted: 0 of 1 inputs are done\n"


def test_ctrl_c_lists_failures_but_not_the_input_in_flight(
    fake: FakeTranscriber, audio: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.results |= {"a.wav": AudioError("silent film"), "c.wav": KeyboardInterrupt()}
    assert transcribe(".", "--save") == 130
    assert fake.closed
    assert list(results_in(audio)) == ["b.txt"]
    assert capsys.readouterr().err.splitlines()[1:] == [
        "qwen3-asr-onnx: interrupted: 1 of 3 inputs are done; what is finished is kept, --resume makes the rest",
        "qwen3-asr-onnx: 1 of 3 inputs failed:",
        "  a.wav",
    ]


def test_after_ctrl_c_resume_is_not_offered_for_overwriting(
    fake: FakeTranscriber, audio: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.results["b.wav"] = KeyboardInterrupt()
    assert transcribe(".", "--save", "--overwrite") == 130
    assert capsys.readouterr().err.endswith("1 of 3 inputs are done; what is finished is kept\n")


def test_ctrl_c_while_writing_leaves_no_partial_file(
    fake: FakeTranscriber, audio: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    assert transcribe(".", "--save") == 130
    assert results_in(audio) == {}


SLOW = """
import sys, time
from pathlib import Path
from qwen3_asr_onnx.commands import cli
from qwen3_asr_onnx.commands import transcribe as transcribe_command
from qwen3_asr_onnx.results import Segment, Transcript
from qwen3_asr_onnx.transcription.journal import Place

def said(text, *reasons):
    segments = tuple(Segment(float(i), i + 1.0, text, "English", (1,), why, 0.0) for i, why in enumerate(reasons))
    return Transcript(text, "English", float(len(reasons)), segments, None, (1,), reasons[-1], 0.0)

class Slow:
    def transcribe_many(self, audios, options, *, errors, progress, on_segment, cancel, journals):
        for audio, journal in zip(audios, journals):
            if Path(audio).name == "c.wav":
                half = said("hel", "eos", "cancelled")
                journal.begin({"input": None})
                journal.keep(Place(0, 16000, ""), half.segments[:1])
                Path("started").touch()
                while not cancel.is_set():
                    time.sleep(0.01)
                yield half
                return
            yield said("hello", "eos")
    def close(self):
        Path("closed").touch()

transcribe_command.load_transcriber = lambda args: Slow()
sys.exit(cli.main(sys.argv[1:]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals cannot be sent to one process there")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_interrupting_many_files_and_going_on(fake: FakeTranscriber, audio: Path, name: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW, "transcribe", "-m", "bundle", ".", "--output-dir", "out"],
        cwd=audio,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while not (audio / "started").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(getattr(signal, name))
    out, err = process.communicate(timeout=60)
    assert process.returncode == {"SIGINT": 130, "SIGTERM": 143, "SIGHUP": 129}[name]
    assert out == ""
    kept = Path("out", "sub", "c.partial.jsonl")
    assert err.splitlines() == [
        f"qwen3-asr-onnx: interrupted: sub/c.wav: 1.0 s of it are done and kept in {kept}, --resume goes on from there",
        "qwen3-asr-onnx: interrupted: 2 of 3 inputs are done; what is finished is kept, --resume makes the rest",
    ]
    assert (audio / "closed").exists()
    assert list(results_in(audio / "out")) == ["a.txt", "b.txt", "sub/c.partial.jsonl"]

    assert transcribe(".", "--output-dir", "out", "--resume") == 0
    assert fake.heard == ["c.wav"]
    assert "sub/c.txt" in results_in(audio / "out")


def test_an_input_of_which_nothing_was_heard_leaves_no_file_and_no_promise(
    fake: FakeTranscriber, audio: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(audio: object, options: TranscribeOptions) -> Transcript:
        signal.raise_signal(signal.SIGTERM)
        return transcript("", "cancelled")

    monkeypatch.setattr(fake, "transcribe", interrupted)
    assert transcribe("a.wav", "b.wav", "--save") == 143
    assert results_in(audio) == {}
    assert capsys.readouterr().err.splitlines() == [
        "qwen3-asr-onnx: interrupted: a.wav: nothing of it is kept",
        "qwen3-asr-onnx: interrupted: 0 of 2 inputs are done; --resume makes the rest",
    ]


# --- streams ---

TALKER = """
import sys
from qwen3_asr_onnx.commands import cli, delivery
from qwen3_asr_onnx.commands import transcribe as transcribe_command
from qwen3_asr_onnx.transcription.recording import INPUT_ERRORS
from qwen3_asr_onnx.outputs.saving import write_atomically
from qwen3_asr_onnx.results import Segment, Transcript

class Talker:
    def transcribe_many(self, audios, options, *, errors, progress, on_segment, cancel, journals):
        for audio in audios:
            progress(1.0)
            text = "\\u4f60\\u597d, \\u0141\\xf3d\\u017a " + "x" * int(sys.argv[1])
            segment = Segment(0.0, 1.0, text, "Chinese", (1,), "eos", 0.0)
            yield Transcript(text, "Chinese", 1.0, (segment,), None, (1,), "eos", 0.0)
    def close(self):
        pass

transcribe_command.load_transcriber = lambda args: Talker()
sys.exit(cli.main(["transcribe", "-m", "bundle", *sys.argv[2:]]))
"""


def talk(length: int, *arguments: str, **environment: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", TALKER, str(length), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, **environment},
    )


@pytest.mark.skipif(sys.platform == "win32", reason="signals cannot be sent to one process there")
@pytest.mark.parametrize(("length", "n_inputs"), [(2_000_000, 1), (2_000, 100)])
def test_a_reader_that_stands_still_does_not_hold_up_an_end(audio: Path, length: int, n_inputs: int) -> None:
    """The text fills the pipe and the buffers before it, at once or in pieces."""
    process = talk(length, *["a.wav"] * n_inputs)
    assert process.stdout is not None
    assert process.stdout.read(6)
    time.sleep(0.2)  # the rest does not fit into the pipe
    process.terminate()
    assert process.wait(timeout=60) == 143
    _, err = process.communicate()
    assert err.startswith(b"qwen3-asr-onnx: interrupted: ")
    assert err.count(b"\n") == 1


def test_a_reader_that_goes_away_is_no_error(audio: Path) -> None:
    process = talk(200_000, *["a.wav"] * 20)
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline() == b"==> a.wav <==\n"
    process.stdout.close()
    with process.stderr:
        assert process.stderr.read() == b""
    assert process.wait(timeout=60) == 141


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_stdout_on_a_full_disk_fails_in_one_line(audio: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        process = subprocess.run(
            [sys.executable, "-c", TALKER, "1", "a.wav"], stdout=full, stderr=subprocess.PIPE, check=False
        )
    assert process.returncode == 1
    assert process.stderr.startswith(b"qwen3-asr-onnx: error: ")
    assert process.stderr.count(b"\n") == 1


@pytest.mark.parametrize(
    "environment",
    [
        {"LC_ALL": "C"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"PYTHONUTF8": "1"},
        {"PYTHONIOENCODING": "cp1252"},
        {"PYTHONIOENCODING": "ascii:strict"},
        {"PYTHONIOENCODING": "utf-16"},
    ],
)
def test_a_pipe_gets_utf8_in_any_locale(audio: Path, environment: dict[str, str]) -> None:
    environment = {"PYTHONIOENCODING": "", **environment}
    out, err = talk(1, "a.wav", **environment).communicate(timeout=60)
    assert (out.decode().replace("\r", ""), err) == ("你好, Łódź x\n", b"")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows consoles take any text")
@pytest.mark.parametrize(("encoding", "status"), [("ascii", 1), ("iso8859-1", 1), ("utf-8", 0)])
def test_a_terminal_that_cannot_show_the_text_fails_the_run_and_shows_what_it_can(
    audio: Path, encoding: str, status: int
) -> None:
    import pty
    import tty

    master, slave = pty.openpty()
    tty.setraw(slave)
    done = subprocess.run(
        [sys.executable, "-c", TALKER, "1", "a.wav"],
        stdout=slave,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONIOENCODING": encoding},
        check=False,
    )
    shown = os.read(master, 1000)
    os.close(master)
    os.close(slave)
    assert done.returncode == status
    assert shown.decode(encoding) == "你好, Łódź x\n".encode(encoding, "backslashreplace").decode(encoding)
    assert done.stderr.count(b"\n") == status
    assert not status or done.stderr.startswith(f"qwen3-asr-onnx: error: this terminal shows {encoding}".encode())


@pytest.mark.skipif(sys.platform == "win32", reason="Windows knows no such locale")
def test_options_are_utf8_in_any_locale(audio: Path) -> None:
    environment = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    wrong = ["a.wav", "-l", "Łódź", "--context", "Łódź"]
    err = talk(1, *wrong, **environment).communicate(timeout=60)[1]
    assert err == b""
    process = talk(1, "a.wav", "--context", os.fsdecode(b"caf\xe9"), **environment)
    err = process.communicate(timeout=60)[1]
    assert (process.returncode, err.count(b"\n")) == (2, 1)
    assert b"is not UTF-8; see qwen3-asr-onnx transcribe --help" in err


@pytest.mark.parametrize("environment", [{"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, {}])
def test_file_names_in_any_script(audio: Path, environment: dict[str, str]) -> None:
    (audio / "日本 語.wav").write_bytes(b"")
    out, err = talk(1, "日本 語.wav", "a.wav", "--output-dir", "出力", **environment).communicate(timeout=60)
    assert (out, err.replace(b"\r", b"")) == (b"", b"qwen3-asr-onnx: 2 transcribed\n")
    assert list(results_in(audio / "出力")) == ["a.txt", "日本 語.txt"]
    out, err = talk(1, "日本 語.wav", "a.wav", **environment).communicate(timeout=60)
    assert out.count("你好".encode()) == 2


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_shows_on_a_terminal_only_and_steps_around_messages(
    fake: FakeTranscriber, audio: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    fake.results["b.wav"] = AudioError("b.wav: bad")
    transcribe("a.wav", "b.wav")
    assert re.search(r"2s \[.*RTF 0\.\d{3}, 1 of 2 inputs", terminal.getvalue())
    assert "\rqwen3-asr-onnx: error: b.wav: bad\n" in terminal.getvalue()
    terminal.truncate(0)
    transcribe("a.wav", "--quiet")
    assert terminal.getvalue() == ""
