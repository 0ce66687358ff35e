"""Text on stdout while it is made: in a pipe and on a terminal, of one input and of several, whole and broken off."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from qwen3_asr_onnx.commands import cli
from qwen3_asr_onnx.commands import transcribe as transcribe_command
from qwen3_asr_onnx.errors import AudioError
from qwen3_asr_onnx.options import TranscribeOptions
from qwen3_asr_onnx.results import Segment, Transcript
from qwen3_asr_onnx.text.answer import join_texts
from qwen3_asr_onnx.transcription.journal import Journal


def segment(text: str, start_s: float = 0.0) -> Segment:
    return Segment(start_s, start_s + 2.0, text, "English", (7,), "eos", -0.1)


def transcript_of(segments: tuple[Segment, ...]) -> Transcript:
    text = join_texts([(one.text, one.language) for one in segments])
    return Transcript(text, "English", 2.0 * len(segments), segments, None, (7,), "eos", -0.1)


@dataclass
class Speaker:
    """Says what is written down for each name, segment by segment; an error ends an input."""

    said: dict[str, list[str | AudioError]]
    look: Callable[[], str]
    seen: list[str]

    def transcribe_many(
        self,
        audios: Iterable[Path],
        options: TranscribeOptions,
        *,
        errors: str,
        progress: Callable[[float], object],
        on_segment: Callable[[Segment], object] | None,
        cancel: object,
        journals: Iterable[Journal],
    ) -> Iterator[Transcript | Exception]:
        for audio, _ in zip(audios, journals, strict=True):
            segments: list[Segment] = []
            for i, text in enumerate(self.said[audio.name]):
                if isinstance(text, AudioError):
                    yield text
                    break
                segments.append(segment(text, 2.0 * i))
                if on_segment is not None:
                    on_segment(segments[-1])
                    self.seen.append(self.look())
                progress(2.0)
            else:
                yield transcript_of(tuple(segments))
                self.seen.append(self.look())

    def close(self) -> None:
        pass


@pytest.fixture
def speaker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Speaker:
    """A transcriber that looks what is on stdout after every segment and every input."""
    speaker = Speaker({}, lambda: capsys.readouterr().out, [])
    monkeypatch.setattr(transcribe_command, "load_transcriber", lambda args: speaker)
    monkeypatch.chdir(tmp_path)
    for name in ("a.wav", "b.wav", "c.wav"):
        Path(name).write_bytes(b"audio")
    return speaker


def transcribe(speaker: Speaker, *arguments: str) -> int:
    speaker.seen.clear()
    status = cli.main(["transcribe", "-m", "bundle", *arguments])
    speaker.seen.append(speaker.look())
    return status


def test_each_segment_is_shown_when_it_is_done(speaker: Speaker) -> None:
    speaker.said = {"a.wav": ["Hello there.", "", "Good bye."]}
    assert transcribe(speaker, "a.wav") == 0
    assert speaker.seen == ["Hello there.", "", " Good bye.", "\n"]


def test_with_times_each_is_a_line(speaker: Speaker) -> None:
    speaker.said = {"a.wav": ["Hello\nthere.", "", "Good bye."]}
    assert transcribe(speaker, "a.wav", "--times") == 0
    assert speaker.seen == ["[00:00.0 --> 00:02.0] Hello there.\n", "", "[00:04.0 --> 00:06.0] Good bye.\n", ""]
    shown = "".join(speaker.seen)
    assert transcribe(speaker, "a.wav", "--times", "-f", "txt,srt", "--save") == 0
    assert Path("a.txt").read_text(encoding="utf-8") == shown


def test_several_inputs_keep_their_names(speaker: Speaker) -> None:
    speaker.said = {"a.wav": ["", "One."], "b.wav": [""], "c.wav": ["Two.", "Three."]}
    assert transcribe(speaker, "a.wav", "b.wav", "c.wav") == 0
    assert speaker.seen == [
        *("", "==> a.wav <==\nOne.", "\n"),
        *("", "\n==> b.wav <==\n"),
        *("\n==> c.wav <==\nTwo.", " Three.", "\n"),
    ]


def test_an_input_that_breaks_off_ends_its_line(speaker: Speaker) -> None:
    broken = AudioError("a.wav: a sample is no number")
    speaker.said = {"a.wav": ["One.", broken], "b.wav": [broken], "c.wav": ["Two."]}
    assert transcribe(speaker, "a.wav", "b.wav", "c.wav") == 1
    assert speaker.seen == ["==> a.wav <==\nOne.", "\n\n==> c.wav <==\nTwo.", "\n"]
    assert transcribe(speaker, "a.wav", "--times") == 1
    assert "".join(speaker.seen) == "[00:00.0 --> 00:02.0] One.\n"


@pytest.mark.parametrize("name", ["json", "srt", "vtt", "tsv"])
def test_other_formats_come_whole(speaker: Speaker, name: str) -> None:
    speaker.said = {"a.wav": ["Hello there.", "Good bye."]}
    assert transcribe(speaker, "a.wav", "-f", name) == 0
    (shown,) = speaker.seen
    assert "Good bye." in shown


TERMINAL = """
import sys
from qwen3_asr_onnx.commands import cli
from qwen3_asr_onnx.commands import transcribe as transcribe_command
from qwen3_asr_onnx.results import Segment, Transcript

class Speaker:
    def transcribe_many(self, audios, options, *, errors, progress, on_segment, cancel, journals):
        for audio in audios:
            pieces = ((0.0, "One."), (1.0, "Two."))
            segments = [Segment(i, i + 1.0, said, "English", (), "length", 0.0) for i, said in pieces]
            progress(0.5)
            for segment in segments:
                on_segment(segment)
                progress(1.0)
            yield Transcript("One. Two.", "English", 2.0, tuple(segments), None, (), "length", 0.0)
    def close(self):
        pass

transcribe_command.load_transcriber = lambda args: Speaker()
sys.exit(cli.main(["transcribe", "-m", "bundle", *sys.argv[1:]]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals")
@pytest.mark.parametrize("times", [False, True])
def test_on_a_terminal_nothing_is_drawn_over_the_text(speaker: Speaker, times: bool) -> None:
    import fcntl
    import pty
    import termios
    import tty

    master, slave = pty.openpty()
    tty.setraw(slave)
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("4H", 25, 150, 0, 0))
    arguments = ["a.wav", "b.wav", *(["--times"] if times else [])]
    done = subprocess.run([sys.executable, "-c", TERMINAL, *arguments], stdout=slave, stderr=slave, check=False)
    shown = os.read(master, 100_000).decode()
    os.close(master)
    os.close(slave)
    assert done.returncode == 0
    lines = as_seen(shown)
    warning = "qwen3-asr-onnx: warning: {}.wav: the token limit was reached and text may be missing"
    said = ["[00:00.0 --> 00:01.0] One.", "[00:01.0 --> 00:02.0] Two."] if times else ["One. Two."]
    assert [line.partition(";")[0] for line in lines] == [
        *("==> a.wav <==", *said, warning.format("a"), ""),
        *("==> b.wav <==", *said, warning.format("b"), "qwen3-asr-onnx: 2 transcribed"),
    ]
    assert "RTF" in shown, "there was a bar before"


def as_seen(written: str) -> list[str]:
    """Return the lines of a terminal: a carriage return goes back to the start of the line, and writes over it."""
    lines = []
    for line in written.split("\n"):
        row: list[str] = []
        column = 0
        for character in line.replace("\x1b[A", ""):
            if character == "\r":
                column = 0
                continue
            row[column : column + 1] = [character]
            column += 1
        lines.append("".join(row).rstrip())
    while lines and not lines[-1]:
        lines.pop()
    return lines
