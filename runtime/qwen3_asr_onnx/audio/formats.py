"""A file in, mono float32 blocks out: WAV by ourselves, most formats by soundfile, the rest by the ffmpeg program."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

from qwen3_asr_onnx.arrays import Waveform
from qwen3_asr_onnx.errors import AudioError, MissingExtra

from .blocks import AudioStream, Mix, to_mono
from .containers import read_layout
from .ffmpeg import ffmpeg_stream, find_ffmpeg
from .layout import Part
from .libsndfile import PartOfFile, ReadOn, libsndfile_stream, open_part
from .wav import WavHeader, is_wav, read_wav_blocks, read_wav_header

__all__ = ["open_stream"]

LOG = logging.getLogger(__name__)

_HEAD_BYTES = 512


def open_stream(
    file: BinaryIO,
    name: str,
    path: Path | None,
    timeout_s: float,
    stack: ExitStack,
    mix: Mix = to_mono,
    track: int | None = None,
) -> AudioStream:
    """Return the audio of a file, from the first decoder that knows its format.

    Args:
        file: seekable, at its start.
        name: what to call it in errors.
        path: where it lies on disk, if it does.
        timeout_s: most seconds to wait for ffmpeg.
        stack: closes the decoder.
        mix: makes one channel of all.
        track: audio track, counted from 1, which only ffmpeg can choose; None is the first.

    Raises:
        AudioError: empty, text, damaged, or of a format no decoder at hand knows.
        LimitError: ffmpeg did not finish in time.
        MissingExtra: not WAV, and neither soundfile nor ffmpeg is installed.
    """
    head = _head(file, name)
    if track is not None:
        if find_ffmpeg() is None:
            raise MissingExtra(f"{name}: audio track {track} can be chosen by ffmpeg only; install ffmpeg")
        return _ffmpeg_stream(file, name, path, timeout_s, stack, (), mix, track)
    if is_wav(head):
        header = read_wav_header(file, name)
        if header.is_plain:
            LOG.debug("%s: read as WAV, without a decoder", name)
            return _wav_stream(file, header, name, mix)
        file.seek(0)
    if _is_text(head):
        raise AudioError(f"{name}: this is text, not audio, whatever its name says")
    layout = read_layout(file)
    try:
        sound = open_part(file, layout.parts[0])
        has_soundfile = True
    except ImportError:
        sound, has_soundfile = None, False
    if sound is not None:
        LOG.debug("%s: decoded by libsndfile", name)
        read_on = _by_ffmpeg(file, name, timeout_s, mix)
        return stack.enter_context(libsndfile_stream(sound, file, layout, name, read_on, mix))
    file.seek(0)
    if find_ffmpeg() is not None:
        return _ffmpeg_stream(file, name, path, timeout_s, stack, layout.faults, mix)
    if not has_soundfile:
        raise MissingExtra(
            f"{name}: reading anything but WAV needs soundfile: pip install 'qwen3-asr-onnx[audio]' (or ffmpeg)"
        )
    raise AudioError(
        f"{name}: neither WAV nor a format soundfile knows; for M4A, WebM, video and others install ffmpeg"
    )


def _head(file: BinaryIO, name: str) -> bytes:
    """Return the first bytes; the file is at its start again."""
    try:
        head = file.read(_HEAD_BYTES)
    except OSError as error:
        raise AudioError(f"{name}: cannot be read: {error}") from error
    if not head:
        raise AudioError(f"{name}: the file is empty (0 bytes)")
    file.seek(0)
    return head


def _ffmpeg_stream(
    file: BinaryIO,
    name: str,
    path: Path | None,
    timeout_s: float,
    stack: ExitStack,
    faults: Sequence[str],
    mix: Mix,
    track: int | None = None,
) -> AudioStream:
    ffmpeg = find_ffmpeg()
    assert ffmpeg is not None
    LOG.debug("%s: decoded by %s", name, ffmpeg)
    real_path = path if path is not None else _copy_to_path(file, stack)
    return stack.enter_context(ffmpeg_stream(ffmpeg, real_path, name, timeout_s, faults, mix, track))


def _by_ffmpeg(file: BinaryIO, name: str, timeout_s: float, mix: Mix) -> ReadOn:
    """Return what reads on behind a damage, at which libsndfile ends and ffmpeg, where it is installed, does not."""

    def read_on(part: Part, sample_rate: int, n_read: int) -> Iterator[Waveform]:
        ffmpeg = find_ffmpeg()
        if ffmpeg is None:
            return
        with ExitStack() as stack:
            copy = _copy_to_path(PartOfFile(file, part), stack)
            try:
                stream = stack.enter_context(ffmpeg_stream(ffmpeg, copy, name, timeout_s, (), mix))
            except AudioError:  # it knows the format no better
                return
            if stream.sample_rate != sample_rate:
                return
            left = n_read
            for block in stream.blocks:
                yield block[left:]
                left = max(0, left - len(block))

    return read_on


def _wav_stream(file: BinaryIO, header: WavHeader, name: str, mix: Mix) -> AudioStream:
    """Return the audio of a WAV file and of those that were joined behind it."""
    headers = [(file.tell(), header)]
    stream = AudioStream(header.sample_rate, None, iter(()), n_channels=header.n_channels)
    for part in read_layout(file).parts[1:]:
        file.seek(part.start)
        try:
            following = read_wav_header(file, name)
        except AudioError:  # the file in front of it is whole
            stream.faults.append(f"a damaged WAV file begins at byte {part.start}; it was not read")
            continue
        if following.is_plain and following.sample_rate == header.sample_rate:
            headers.append((file.tell(), following))
        else:
            stream.faults.append(f"a WAV file of another codec or rate begins at byte {part.start}; it was not read")
    lengths = [found.n_frames for _, found in headers]
    stream.promised_frames = None if None in lengths else sum(length or 0 for length in lengths)

    def blocks(skipped: int = 0) -> Iterator[Waveform]:
        for offset, found in headers:
            file.seek(offset + skipped * found.n_channels * found.sample_bytes)
            yield from read_wav_blocks(file, found, mix, skipped)

    def skip(n_frames: int) -> int:
        stream.blocks = blocks(n_frames)
        return n_frames

    stream.blocks = blocks()
    if len(headers) == 1:
        stream.skip = skip
    return stream


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


def _copy_to_path(file: BinaryIO | PartOfFile, stack: ExitStack) -> Path:
    """Write the file to disk for ffmpeg, which must seek in MP4 and cannot in a pipe."""
    # Where the system can open a file that has no name, nothing is left of it, whatever ends this process.
    copy: BinaryIO = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 - the stack closes it
    path = Path(f"/proc/{os.getpid()}/fd/{copy.fileno()}")
    if not path.exists():
        path = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="qwen3-asr-"))) / "audio"
        copy = stack.enter_context(path.open("wb"))
    while data := file.read(1 << 20):
        copy.write(data)
    copy.flush()
    return path
