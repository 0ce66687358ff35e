"""A file in, mono float32 blocks out: WAV by ourselves, most formats by soundfile, the rest by the ffmpeg program."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from qwen3_asr_onnx.arrays import Waveform
from qwen3_asr_onnx.errors import AudioError, MissingExtra

from .blocks import BLOCK_FRAMES, AudioStream, check_rate, to_mono
from .ffmpeg import ffmpeg_stream, find_ffmpeg
from .wav import is_wav, read_wav_blocks, read_wav_header

if TYPE_CHECKING:
    import soundfile

__all__ = ["open_stream"]

_OGG_PAGE_BYTES = 65_307
"""Longest page of an Ogg file; its header begins with OggS and a flags byte at index 5."""

_OGG_END_FLAG = 4

_HEAD_BYTES = 512


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
    ffmpeg = find_ffmpeg()
    if ffmpeg is not None:
        real_path = path.expanduser() if path is not None else _copy_to_path(file, stack)
        return stack.enter_context(ffmpeg_stream(ffmpeg, real_path, name, timeout_s))
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
            block = sound.read(BLOCK_FRAMES, dtype="float32")
        except soundfile.LibsndfileError as error:
            faults.append(error.error_string.strip(" .\n") or "the data is damaged")
            return
        if not len(block):
            break
        yield to_mono(block)
    if sound.format == "OGG" and not _ogg_is_complete(file):
        faults.append("the Ogg stream has no end mark, so it was cut or is still being written")


def _ogg_is_complete(file: BinaryIO) -> bool:
    """Return whether the last page carries the end-of-stream flag: the only sign, for Ogg promises no length."""
    n_bytes = file.seek(0, 2)
    file.seek(max(0, n_bytes - _OGG_PAGE_BYTES))
    tail = file.read(_OGG_PAGE_BYTES)
    page = tail.rfind(b"OggS")
    return 0 <= page < len(tail) - 5 and bool(tail[page + 5] & _OGG_END_FLAG)
