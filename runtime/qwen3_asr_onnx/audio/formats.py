"""A file in, mono float32 blocks out: WAV by ourselves, most formats by soundfile, the rest by the ffmpeg program."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from qwen3_asr_onnx.arrays import Waveform
from qwen3_asr_onnx.errors import AudioError, LimitError, MissingExtra

from .blocks import BLOCK_FRAMES, AudioStream, check_rate
from .wav import is_wav, read_wav_blocks, read_wav_header

if TYPE_CHECKING:
    import soundfile

__all__ = ["open_stream"]

_OGG_PAGE_BYTES = 65_307
"""Longest page of an Ogg file; its header begins with OggS and a flags byte at index 5."""

_OGG_END_FLAG = 4

_HEAD_BYTES = 512

_ANSWER_TIMEOUT_S = 10.0
"""An ffmpeg that does not say what it is by then is stuck; it answers in 0.1 s."""

_FFMPEG_FORMATS = ",".join(
    (
        "aa aac aax ac3 ac4 act aea aiff amr amrnb amrwb ape asf au avi avr caf codec2 daud dsf dts dtshd dv eac3 flac",
        "flv g722 g723_1 g729 gsm gxf iff ilbc ircam kux live_flv loas lxf matroska mlp mov mp3 mpc mpc8 mpeg",
        "mpegts mxf nistsphere nsv nut ogg oma osq paf pvf qcp rm rso sbc sds shn smjpeg sol sox spdif swf tak truehd",
        "tta voc vqf w64 wav webm wsd wtv wv wve xa xwma",
    )
).replace(" ", ",")
"""The demuxers of ffmpeg that read one recording from one file. Playlists, manifests, image sequences, scripts and
descriptions of other sources (hls, dash, concat, imf, image2, sdp, lavfi, vobsub, ...) are not among them: they name
further files and addresses, which ffmpeg would read and we would transcribe."""


def open_stream(file: BinaryIO, name: str, path: Path | None, timeout_s: float, stack: ExitStack) -> AudioStream:
    """Return the audio of a file, from the first decoder that knows its format.

    Args:
        file: seekable, at its start.
        name: what to call it in errors.
        path: where it lies on disk, if it does.
        timeout_s: most seconds to wait for ffmpeg.
        stack: closes the decoder.

    Raises:
        AudioError: empty, text, damaged, or of a format no decoder at hand knows.
        LimitError: ffmpeg did not finish in time.
        MissingExtra: not WAV, and neither soundfile nor ffmpeg is installed.
    """
    try:
        head = file.read(_HEAD_BYTES)
    except OSError as error:
        raise AudioError(f"{name}: cannot be read: {error}") from error
    if not head:
        raise AudioError(f"{name}: the file is empty (0 bytes)")
    file.seek(0)
    if is_wav(head):
        header = read_wav_header(file, name)
        if header.is_plain:
            return AudioStream(header.sample_rate, header.n_frames, read_wav_blocks(file, header))
        file.seek(0)
    if _is_text(head):
        raise AudioError(f"{name}: this is text, not audio, whatever its name says")
    try:
        sound = _open_soundfile(file)
        has_soundfile = True
    except ImportError:
        sound, has_soundfile = None, False
    if sound is not None:
        return stack.enter_context(_soundfile_stream(sound, file, name))
    ffmpeg = _find_ffmpeg()
    if ffmpeg is not None:
        real_path = path.expanduser() if path is not None else _copy_to_path(file, stack)
        return stack.enter_context(_ffmpeg_stream(ffmpeg, real_path, name, timeout_s))
    if not has_soundfile:
        raise MissingExtra(
            f"{name}: reading anything but WAV needs soundfile: pip install 'qwen3-asr-onnx[audio]' (or ffmpeg)"
        )
    raise AudioError(
        f"{name}: neither WAV nor a format soundfile knows; for M4A, WebM, video and others install ffmpeg"
    )


def _is_text(head: bytes) -> bool:
    """Return whether a file begins as text, which deserves a plainer message than a decoder's. No security check."""
    if head.startswith(b"NIST_1A"):  # SPHERE files open with 1024 bytes of text
        return False
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(head) - 3:  # not merely a character cut at the end of the head
            return False
        text = head[: error.start].decode("utf-8")
    return all(character.isprintable() or character in "\t\n\r\f\ufeff" for character in text)


def _copy_to_path(file: BinaryIO, stack: ExitStack) -> Path:
    """Write the file to disk for ffmpeg, which must seek in MP4 and cannot in a pipe."""
    path = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="qwen3-asr-"))) / "audio"
    with path.open("wb") as copy:
        while data := file.read(1 << 20):
            copy.write(data)
    return path


def _open_soundfile(file: BinaryIO) -> soundfile.SoundFile | None:
    """Return the file opened by libsndfile, or None when libsndfile does not know its format.

    Raises:
        ImportError: soundfile is not installed.
    """
    import soundfile  # the [audio] extra

    try:
        return soundfile.SoundFile(file)
    except soundfile.LibsndfileError:
        file.seek(0)
        return None


@contextmanager
def _soundfile_stream(sound: soundfile.SoundFile, file: BinaryIO, name: str) -> Iterator[AudioStream]:
    """Give the audio of a file that libsndfile opened, and close libsndfile's side of it at the end.

    Raises:
        AudioError: the sampling rate is out of range.
    """
    with sound:
        # libsndfile says 2^63 - 1 frames when the container does not say.
        promised = sound.frames if sound.frames < 1 << 62 else None
        stream = AudioStream(check_rate(sound.samplerate, name), promised, iter(()))
        stream.blocks = _soundfile_blocks(sound, file, stream.faults)
        yield stream


def _soundfile_blocks(sound: soundfile.SoundFile, file: BinaryIO, faults: list[str]) -> Iterator[Waveform]:
    import soundfile

    while True:
        try:
            block = sound.read(BLOCK_FRAMES, dtype="float32", always_2d=True)
        except soundfile.LibsndfileError as error:
            faults.append(error.error_string.strip(" .\n") or "the data is damaged")
            return
        if not len(block):
            break
        yield block[:, 0] if block.shape[1] == 1 else block.mean(axis=1)
    if sound.format == "OGG" and not _ogg_is_complete(file):
        faults.append("the Ogg stream has no end mark, so it was cut or is still being written")


def _ogg_is_complete(file: BinaryIO) -> bool:
    """Return whether the last page carries the end-of-stream flag: the only sign, for Ogg promises no length."""
    n_bytes = file.seek(0, 2)
    file.seek(max(0, n_bytes - _OGG_PAGE_BYTES))
    tail = file.read(_OGG_PAGE_BYTES)
    page = tail.rfind(b"OggS")
    return 0 <= page < len(tail) - 5 and bool(tail[page + 5] & _OGG_END_FLAG)


def _find_ffmpeg() -> str | None:
    """Return the path of the ffmpeg program, or None when it is not installed."""
    return shutil.which("ffmpeg")


class _WatchedPipe:
    """The output of a program that is killed once it has kept its reader waiting for `timeout_s` seconds in total.

    The program itself may live longer: a reader that transcribes what it reads takes as long as it takes.
    """

    def __init__(self, process: subprocess.Popen[bytes], timeout_s: float) -> None:
        self._process = process
        self._output = cast("BinaryIO", process.stdout)
        self._left_s = timeout_s
        self._asked_at_s: float | None = None
        self._closed = threading.Event()
        self.expired = False
        self._watch = threading.Thread(target=self._kill_when_late, args=(min(1.0, timeout_s / 4),), daemon=True)
        self._watch.start()

    def read(self, n_bytes: int) -> bytes:
        self._asked_at_s = started = time.monotonic()
        try:
            return self._output.read(n_bytes)
        finally:
            self._asked_at_s = None
            self._left_s -= time.monotonic() - started

    def _kill_when_late(self, interval_s: float) -> None:
        while not self._closed.wait(interval_s):
            asked_at_s = self._asked_at_s
            if asked_at_s is not None and time.monotonic() - asked_at_s > self._left_s:
                self.expired = True
                self._process.kill()
                return

    def close(self) -> None:
        self._closed.set()
        self._watch.join()
        self._output.close()


@contextmanager
def _ffmpeg_stream(ffmpeg: str, path: Path, name: str, timeout_s: float) -> Iterator[AudioStream]:
    """Give the first audio track of any file ffmpeg reads, and end the program at the end.

    ffmpeg gets the one open file, by descriptor where it can (from version 6.0 on), and may take it for one of
    `_FFMPEG_FORMATS` only, so that no playlist, whatever its name, can make it read another file or address.

    Args:
        ffmpeg: path of the program.
        path: the file; ffmpeg seeks in it, so a pipe will not do.
        name: what to call the file in errors.
        timeout_s: most seconds to wait for ffmpeg in total.

    Raises:
        AudioError: ffmpeg finds no audio it can decode.
        LimitError: ffmpeg kept us waiting too long.
    """
    command = [ffmpeg, "-nostdin", "-v", "error", *_ffmpeg_input(ffmpeg, path, _FFMPEG_FORMATS)]
    # float WAV keeps rate and channels, so that mixing down and resampling are the same for every format.
    command += ["-map", "0:a:0", "-vn", "-sn", "-dn", "-f", "wav", "-c:a", "pcm_f32le", "-bitexact", "pipe:1"]
    with tempfile.TemporaryFile() as messages, path.open("rb") as file:
        process = subprocess.Popen(command, stdin=file, stdout=subprocess.PIPE, stderr=messages)  # noqa: S603
        pipe = _WatchedPipe(process, timeout_s)
        output = cast("BinaryIO", pipe)  # only `read` is used of it
        try:
            try:
                header = read_wav_header(output, name)
            except AudioError as error:
                process.wait()
                _check_time(pipe, name, timeout_s)
                complaint = _last_line(messages)
                if any("Format not on whitelist" in line for line in _read_messages(messages)):
                    raise AudioError(_not_a_recording(name, _ffmpeg_format(ffmpeg, path))) from error
                raise AudioError(
                    f"{name}: neither WAV nor anything soundfile or ffmpeg can decode; ffmpeg says: {complaint}"
                ) from error
            stream = AudioStream(check_rate(header.sample_rate, name), None, iter(()))

            def blocks() -> Iterator[Waveform]:
                yield from read_wav_blocks(output, header)
                code = process.wait()
                _check_time(pipe, name, timeout_s)
                complaint = _last_line(messages)
                if code or complaint:
                    stream.faults.append(f"ffmpeg says: {complaint or f'exit status {code}'}")

            stream.blocks = blocks()
            yield stream
        finally:
            process.kill()
            pipe.close()
            process.wait()


def _ffmpeg_input(ffmpeg: str, path: Path, formats: str) -> list[str]:
    """Return the arguments that make ffmpeg read this one file, which is also its standard input."""
    protocol, address = ("fd", "fd:") if _reads_descriptors(ffmpeg) else ("file", f"file:{path.absolute()}")
    return ["-format_whitelist", formats, "-protocol_whitelist", protocol, "-i", address]


@cache
def _reads_descriptors(ffmpeg: str) -> bool:
    """Return whether this ffmpeg has the protocol that reads an open descriptor and can seek in it."""
    try:
        return b"fd" in _ask(ffmpeg, ["-v", "quiet", "-protocols"], subprocess.DEVNULL).stdout.split()
    except subprocess.TimeoutExpired:  # decoding will not end in time either, and says so
        return False


def _ffmpeg_format(ffmpeg: str, path: Path) -> str:
    """Return what ffmpeg takes the file for, without letting it open the file as that."""
    with path.open("rb") as file:
        answer = _ask(ffmpeg, ["-nostdin", "-v", "debug", *_ffmpeg_input(ffmpeg, path, "none")], file)
    found = re.search(rb"Format (\S+) probed", answer.stderr)
    return found[1].decode("ascii", "replace") if found else "unknown"


def _ask(ffmpeg: str, arguments: list[str], stdin: BinaryIO | int) -> subprocess.CompletedProcess[bytes]:
    command = [ffmpeg, *arguments]
    return subprocess.run(command, stdin=stdin, capture_output=True, check=False, timeout=_ANSWER_TIMEOUT_S)  # noqa: S603


def _not_a_recording(name: str, format_name: str) -> str:
    return (
        f"{name}: this is no recording; ffmpeg takes it for {format_name!r}. Playlists and other files that name files "
        "are not followed: give the audio file itself"
    )


def _check_time(pipe: _WatchedPipe, name: str, timeout_s: float) -> None:
    if pipe.expired:
        raise LimitError(f"{name}: ffmpeg did not finish in {timeout_s} s; raise AudioLimits.decode_timeout_s")


def _read_messages(messages: BinaryIO) -> list[str]:
    messages.seek(0)
    return messages.read(1 << 16).decode("utf-8", "replace").split("\n")


def _last_line(messages: BinaryIO) -> str:
    return next((line.strip() for line in reversed(_read_messages(messages)) if line.strip()), "")
