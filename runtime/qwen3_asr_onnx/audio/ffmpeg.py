"""Any file the ffmpeg program reads in, mono float32 blocks out: one recording from one file, and nothing it names."""

from __future__ import annotations

import re
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import BinaryIO, cast

from qwen3_asr_onnx.arrays import Waveform
from qwen3_asr_onnx.errors import AudioError, LimitError

from .blocks import AudioStream, Mix, check_rate, to_mono
from .ffmpeg_log import FfmpegLog
from .wav import read_wav_blocks, read_wav_header

__all__ = ["ffmpeg_stream", "find_ffmpeg"]

_ANSWER_TIMEOUT_S = 10.0
"""An ffmpeg that does not say what it is by then is stuck; it answers in 0.1 s."""

_FORMATS = ",".join(
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


def find_ffmpeg() -> str | None:
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
def ffmpeg_stream(
    ffmpeg: str,
    path: Path,
    name: str,
    timeout_s: float,
    faults: Sequence[str],
    mix: Mix = to_mono,
    track: int | None = None,
) -> Iterator[AudioStream]:
    """Give one audio track of any file ffmpeg reads, and end the program at the end.

    ffmpeg gets the one open file, by descriptor where it can (from version 6.0 on), and may take it for one of
    `_FORMATS` only, so that no playlist, whatever its name, can make it read another file or address.

    Args:
        ffmpeg: path of the program.
        path: the file; ffmpeg seeks in it, so a pipe will not do.
        name: what to call the file in errors.
        timeout_s: most seconds to wait for ffmpeg in total.
        faults: what its container shows to be missing.
        mix: makes one channel of all.
        track: which one, counted from 1; None is the first.

    Raises:
        AudioError: ffmpeg finds no audio it can decode.
        LimitError: ffmpeg kept us waiting too long.
    """
    process = _start(ffmpeg, path, track or 1)
    pipe = _WatchedPipe(process, timeout_s)
    log = FfmpegLog(cast("BinaryIO", process.stderr))
    output = cast("BinaryIO", pipe)  # only `read` is used of it
    try:
        try:
            header = read_wav_header(output, name)
        except AudioError as error:
            process.wait()
            log.close()
            _check_time(pipe, name, timeout_s)
            raise _refusal(ffmpeg, path, name, log.complaints, track) from error
        stream = AudioStream(check_rate(header.sample_rate, name), None, iter(()), n_channels=header.n_channels)

        def blocks() -> Iterator[Waveform]:
            yield from log.in_time(read_wav_blocks(output, header, mix))
            code = process.wait()
            log.close()
            _check_time(pipe, name, timeout_s)
            stream.faults += [*faults, *log.faults]
            if code or log.complaints:
                stream.faults.append(f"ffmpeg says: {log.complaints[-1] if log.complaints else f'exit status {code}'}")

        stream.blocks = blocks()
        yield stream
    finally:
        process.kill()
        pipe.close()
        process.wait()
        log.close()


def _start(ffmpeg: str, path: Path, track: int = 1) -> subprocess.Popen[bytes]:
    command = [ffmpeg, "-nostdin", "-hide_banner", "-nostats", "-copyts", "-v", "level+info"]
    command += _one_file(ffmpeg, path, _FORMATS)
    # float WAV keeps rate and channels, so that mixing down and resampling are the same for every format.
    command += ["-map", f"0:a:{track - 1}", "-vn", "-sn", "-dn", "-af", "ashowinfo"]
    command += ["-f", "wav", "-c:a", "pcm_f32le", "-bitexact", "pipe:1"]
    pipe = subprocess.PIPE
    with path.open("rb") as file:
        # Ctrl-C is for us: if it ended ffmpeg too, the file would look as if it ended there.
        return subprocess.Popen(command, stdin=file, stdout=pipe, stderr=pipe, start_new_session=True)  # noqa: S603


def _one_file(ffmpeg: str, path: Path, formats: str) -> list[str]:
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


def _probed_format(ffmpeg: str, path: Path) -> str:
    """Return what ffmpeg takes the file for, without letting it open the file as that."""
    with path.open("rb") as file:
        answer = _ask(ffmpeg, ["-nostdin", "-v", "debug", *_one_file(ffmpeg, path, "none")], file)
    found = re.search(rb"Format (\S+) probed", answer.stderr)
    return found[1].decode("ascii", "replace") if found else "unknown"


def _ask(ffmpeg: str, arguments: list[str], stdin: BinaryIO | int) -> subprocess.CompletedProcess[bytes]:
    command = [ffmpeg, *arguments]
    return subprocess.run(command, stdin=stdin, capture_output=True, check=False, timeout=_ANSWER_TIMEOUT_S)  # noqa: S603


def _refusal(ffmpeg: str, path: Path, name: str, complaints: Sequence[str], track: int | None) -> AudioError:
    """Return why ffmpeg gave no audio."""
    if any("Format not on whitelist" in complaint for complaint in complaints):
        return AudioError(
            f"{name}: this is no recording; ffmpeg takes it for {_probed_format(ffmpeg, path)!r}. Playlists and other "
            "files that name files are not followed: give the audio file itself"
        )
    if any("matches no streams" in complaint for complaint in complaints):
        return AudioError(f"{name}: the file has no audio track{'' if track is None else f' {track}'}")
    why = complaints[-1] if complaints else "nothing"
    return AudioError(f"{name}: neither WAV nor anything soundfile or ffmpeg can decode; ffmpeg says: {why}")


def _check_time(pipe: _WatchedPipe, name: str, timeout_s: float) -> None:
    if pipe.expired:
        raise LimitError(f"{name}: ffmpeg did not finish in {timeout_s} s; raise AudioLimits.decode_timeout_s")
