"""Compressed and uncommon formats through libsndfile (the [audio] extra), part by part, with what is missing named."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, BinaryIO, TypeAlias

from qwen3_asr_onnx.arrays import Waveform

from .blocks import BLOCK_FRAMES, AudioStream, Mix, check_rate, to_mono
from .layout import Layout, Part
from .waiting import postponed, undisturbed

if TYPE_CHECKING:
    import soundfile

__all__ = ["PartOfFile", "libsndfile_stream", "open_part", "promised_frames"]

_UNKNOWN_FRAMES = 1 << 62
"""libsndfile says 2^63 - 1 frames when the container does not say."""


ReadOn: TypeAlias = Callable[[Part, int, int], Iterator[Waveform]]
"""Part, its sampling rate in Hz, how many of its frames were read -> blocks of those behind, as far as another decoder
finds them."""


class PartOfFile:
    """One part of a file as a file of its own, with what soundfile asks of one."""

    def __init__(self, file: BinaryIO, part: Part, prefix: bytes = b"") -> None:
        self._file, self._start, self._prefix = file, part.start - len(prefix), prefix
        self._size = len(prefix) + part.end - part.start
        self._position = 0

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move, and return the new position."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def read(self, n_bytes: int, /) -> bytes:
        """Return up to so many bytes, none at the end."""
        try:
            return self._read(n_bytes)
        except KeyboardInterrupt as interrupt:  # of Python's own handler, which does not wait for `undisturbed`
            if not postponed(partial(_raise, interrupt)):
                raise
            return b""

    def _read(self, n_bytes: int) -> bytes:
        prefix = self._prefix[self._position : self._position + n_bytes]
        self._position += len(prefix)
        left = min(n_bytes - len(prefix), self._size - self._position)
        if left <= 0:
            return prefix
        self._file.seek(self._start + self._position)
        data = self._file.read(left)
        self._position += len(data)
        return prefix + data


def _raise(error: BaseException) -> None:
    raise error


def open_part(file: BinaryIO, part: Part) -> soundfile.SoundFile | None:
    """Return a part of a file opened by libsndfile, or None when libsndfile does not know its format.

    Raises:
        ImportError: soundfile is not installed.
    """
    import soundfile  # the [audio] extra

    try:
        with undisturbed():
            sound = soundfile.SoundFile(PartOfFile(file, part), "r")
            if part.prefix and sound.frames < (part.n_frames or 0):  # its guess is where it would stop
                sound.close()
                sound = soundfile.SoundFile(PartOfFile(file, part, part.prefix), "r")
    except soundfile.LibsndfileError:
        return None
    # soundfile would seek to where it is after every block: libmpg123 then forgets the bits that its next frames need
    # (errors up to 0.12 of full scale, and a complaint for each), and a FLAC of unknown length fails at its end.
    sound.seekable = lambda: False
    return sound


@contextmanager
def libsndfile_stream(
    first: soundfile.SoundFile, file: BinaryIO, layout: Layout, name: str, read_on: ReadOn, mix: Mix = to_mono
) -> Iterator[AudioStream]:
    """Give the audio of all parts of a file, and close libsndfile's side of it at the end.

    Args:
        first: the first part, open.
        file: the file; stays open.
        layout: its parts and faults.
        name: what to call it in errors.
        read_on: asked for the rest of a part in which libsndfile gave up.
        mix: makes one channel of all.

    Raises:
        AudioError: the sampling rate is out of range.
    """
    with first:
        promised = promised_frames(first, layout.parts[0])
        for part in layout.parts[1:]:
            promised = None if promised is None or part.n_frames is None else promised + part.n_frames
        stream = AudioStream(check_rate(first.samplerate, name), promised, iter(()))
        stream.blocks = _blocks(first, file, layout, stream, read_on, mix)
        stream.n_channels = first.channels
        if len(layout.parts) == 1 and promised is not None and _seeks_exactly(first):
            stream.skip = partial(_skip, first)
        yield stream


def _seeks_exactly(sound: soundfile.SoundFile) -> bool:
    """Return whether a seek leads to what is read on the way there: not so where frames lean on others."""
    subtype: str = sound.subtype
    return bool(sound.format == "FLAC") or subtype.startswith(("PCM_", "FLOAT", "DOUBLE", "ULAW", "ALAW"))


def _skip(sound: soundfile.SoundFile, n_frames: int) -> int:
    import soundfile

    try:
        with undisturbed():
            return int(sound.seek(n_frames))
    except soundfile.LibsndfileError:  # beyond the end, or a damage on the way: reading tells which
        with undisturbed():
            return int(sound.seek(0))


def promised_frames(sound: soundfile.SoundFile, part: Part) -> int | None:
    """Return the length that the container promises, in samples per channel; None when it does not say."""
    return part.n_frames if part.prefix or sound.frames >= _UNKNOWN_FRAMES else sound.frames


def _blocks(
    first: soundfile.SoundFile, file: BinaryIO, layout: Layout, stream: AudioStream, read_on: ReadOn, mix: Mix
) -> Iterator[Waveform]:
    import soundfile

    n_read = 0
    for part in layout.parts:
        sound = first if part is layout.parts[0] else open_part(file, part)
        at = f"at {n_read / stream.sample_rate:.2f} s"
        if sound is None:
            stream.faults.append(f"{at} follow {part.end - part.start} bytes of another file, which cannot be read")
            continue
        with sound:
            if sound.samplerate != stream.sample_rate:
                stream.faults.append(f"{at} begins another file, at {sound.samplerate} Hz; it was not read")
                continue
            n_before = n_read
            try:
                for block in _part_blocks(sound, mix):
                    n_read += len(block)
                    yield block
            except soundfile.LibsndfileError as error:
                stream.faults.append(f"{_reason(error)} at {n_read / stream.sample_rate:.2f} s")
                for block in read_on(part, stream.sample_rate, n_read - n_before):
                    n_read += len(block)
                    yield block
    stream.faults += layout.faults


def _part_blocks(sound: soundfile.SoundFile, mix: Mix) -> Iterator[Waveform]:
    while True:
        with undisturbed():
            block = sound.read(BLOCK_FRAMES, dtype="float32")
        if not len(block):
            return
        yield mix(block)


def _reason(error: soundfile.LibsndfileError) -> str:
    why: str = error.error_string.removeprefix("Error : ").strip(" .\n")
    return "the data is damaged" if not why or why.startswith("Unspecified") else why
