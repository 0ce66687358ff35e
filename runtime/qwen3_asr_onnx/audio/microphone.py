"""A microphone in, mono blocks out as they are recorded, through the sounddevice package (the [mic] extra)."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from qwen3_asr_onnx.arrays import Waveform
from qwen3_asr_onnx.errors import AudioError, MissingExtra

from .blocks import AudioStream

__all__ = ["list_microphones", "open_microphone"]

_SILENT_DRIVER_S = 3.0
"""A driver that delivers nothing for so long has lost its device: some report nothing when a plug is pulled."""

_MIN_GAP_S = 0.01
"""Clock readings of blocks stray by some milliseconds; less than this is no gap."""


@dataclass(frozen=True, slots=True)
class _Recorded:
    """One block from the driver: (n,) float32, the device's clock at its first sample, and whether some got lost."""

    samples: Waveform
    at_s: float
    after_loss: bool


@contextmanager
def open_microphone(device: str | int | None = None) -> Iterator[AudioStream]:
    """Give the sound of a microphone while the context is open, in blocks of about 0.1 s at the device's own rate.

    Where the computer was too busy to take samples from the device, silence takes their place and `faults` says so.
    When the device goes away, the blocks end and `faults` says so.

    Args:
        device: number or part of the name, as `list_microphones` shows them; None takes the default.

    Raises:
        AudioError: no such device, or it cannot be opened.
        MissingExtra: sounddevice or the PortAudio library is not installed.
    """
    sounddevice = _sounddevice()
    recorded: queue.SimpleQueue[_Recorded | None] = queue.SimpleQueue()

    def take(samples: npt.NDArray[np.float32], _: int, time: Any, status: Any) -> None:
        recorded.put(_Recorded(samples[:, 0].copy(), float(time.inputBufferAdcTime), bool(status.input_overflow)))

    try:
        rate = int(sounddevice.query_devices(device, "input")["default_samplerate"])
        stream = sounddevice.InputStream(
            samplerate=rate,
            blocksize=rate // 10,
            device=device,
            channels=1,
            dtype="float32",
            callback=take,
            finished_callback=lambda: recorded.put(None),
        )
        stream.start()
    except (sounddevice.PortAudioError, ValueError) as error:
        name = "the default microphone" if device is None else f"microphone {device!r}"
        raise AudioError(
            f"{name} cannot be opened: {error}; list what there is with: qwen3-asr-onnx stream --list-microphones"
        ) from error
    faults: list[str] = []
    with stream:
        yield AudioStream(rate, None, _blocks(recorded, rate, faults), faults)


def list_microphones() -> list[str]:
    """Return one line per input device: its number, its name, and whether it is the default.

    Raises:
        MissingExtra: sounddevice or the PortAudio library is not installed.
    """
    sounddevice = _sounddevice()
    default = sounddevice.default.device[0]
    return [
        f"{number}: {device['name']}{' (default)' if number == default else ''}"
        for number, device in enumerate(sounddevice.query_devices())
        if device["max_input_channels"] > 0
    ]


def _blocks(recorded: queue.SimpleQueue[_Recorded | None], rate: int, faults: list[str]) -> Iterator[Waveform]:
    due_s: float | None = None
    while True:
        try:
            block = recorded.get(timeout=_SILENT_DRIVER_S)
        except queue.Empty:
            block = None
        if block is None:
            faults.append("the microphone stopped delivering; it may have been unplugged")
            return
        if block.after_loss and due_s is not None and block.at_s - due_s > _MIN_GAP_S:
            faults.append(f"{block.at_s - due_s:.2f} s of sound were lost because the computer was busy")
            yield np.zeros(round((block.at_s - due_s) * rate), dtype=np.float32)
        due_s = block.at_s + block.samples.size / rate
        yield block.samples


def _sounddevice() -> Any:
    try:
        import sounddevice  # the [mic] extra
    except ImportError as error:
        raise MissingExtra("listening to a microphone needs sounddevice: pip install 'qwen3-asr-onnx[mic]'") from error
    except OSError as error:  # sounddevice is there, the library it wraps is not
        raise MissingExtra(
            f"listening to a microphone needs the PortAudio library ({error}); on Debian or Ubuntu: "
            "apt install libportaudio2"
        ) from error
    return sounddevice
