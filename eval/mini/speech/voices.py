"""Speech with word times from the synthesizers Debian ships: espeak-ng (all languages) and flite (English).

Flows in: the words a voice reads and a `Voice`. Flows out: a 16 kHz waveform and the start and end of every word. Both
libraries are called in this process through their C interfaces: 5-15 ms a sentence, and exact word events.
"""

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import soxr

Waveform: TypeAlias = npt.NDArray[np.float32]  # (n_samples,) mono, 16 kHz, [-1, 1]

SAMPLE_RATE = 16000
PACKAGES = {"espeak-ng": "libespeak-ng1 espeak-ng-data", "flite": "libflite1"}
_SYNCHRONOUS, _PHONEME_EVENTS, _UTF8, _POS_CHARACTER = 2, 1, 1, 1
_EVENT_WORD, _EVENT_PHONEME = 1, 7
_LIBC = ctypes.CDLL(None)
_RATE, _PITCH, _RANGE, _WORDGAP = 1, 3, 4, 7


class SpeechError(RuntimeError):
    """A synthesizer or a voice is missing, or gave no sound; the message names the Debian package to install."""


@dataclass(frozen=True, slots=True)
class Voice:
    """How a sentence is read: engine, voice name, and the espeak-ng settings (flite only obeys `rate_wpm`)."""

    engine: str
    name: str
    rate_wpm: int = 175
    pitch: int = 50
    pitch_range: int = 50
    word_gap: int = 0


@dataclass(frozen=True, slots=True)
class WordSpan:
    """When a spoken word sounds, in seconds; `exact` is False where the synthesizer merged it with its neighbour."""

    start_s: float
    end_s: float
    exact: bool


class _EventId(ctypes.Union):
    _fields_ = [("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8)]


class _Event(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _EventId),
    ]


_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


def load_library(names: Sequence[str], engine: str) -> ctypes.CDLL:
    """Return the first of the shared libraries that loads.

    Raises:
        SpeechError: none loads; says which Debian package brings it.
    """
    for name in names:
        try:
            return ctypes.CDLL(name, mode=ctypes.RTLD_GLOBAL)
        except OSError:
            continue
    raise SpeechError(f"{names[0]} not found: the {engine} voices need it; run: apt-get install {PACKAGES[engine]}")


class Espeak:
    """One loaded copy of the espeak-ng library, good for one reading.

    The library keeps oscillator phases and random numbers from one sentence to the next, so the same words would sound
    (and be timed) a little differently after different histories. A fresh copy costs 5 ms and always sounds the same.
    """

    def __init__(self) -> None:
        self._lib = load_library(["libespeak-ng.so.1", "libespeak-ng.so"], "espeak-ng")
        self.rate_hz = self._lib.espeak_Initialize(_SYNCHRONOUS, 0, None, _PHONEME_EVENTS)
        if self.rate_hz <= 0:
            raise SpeechError("espeak-ng finds no voice data; run: apt-get install espeak-ng-data")
        self._pieces: list[npt.NDArray[np.int16]] = []
        self._words: list[tuple[int, int]] = []
        self._pauses: list[int] = []
        self._callback = _Callback(self._receive)  # kept alive: C holds only a bare pointer
        self._lib.espeak_SetSynthCallback(self._callback)

    def close(self) -> None:
        """Unload the library together with its state; the object must not be used afterwards."""
        self._lib.espeak_Terminate()
        _LIBC.dlclose(ctypes.c_void_p(self._lib._handle))

    def _receive(self, wave: Any, n_samples: int, events: Any) -> int:
        if n_samples > 0:
            self._pieces.append(np.ctypeslib.as_array(wave, (n_samples,)).copy())
        index = 0
        while events[index].type != 0:
            event = events[index]
            if event.type == _EVENT_WORD:
                self._words.append((event.text_position - 1, event.sample))
            elif (
                event.type == _EVENT_PHONEME
                and event.id.string[:1] == b"_"
                and event.id.string[1:2] not in (b"|", b"!")
            ):
                self._pauses.append(event.sample)
            index += 1
        return 0

    def read(self, words: Sequence[str], voice: Voice) -> tuple[Waveform, list[WordSpan]]:
        """Return the 16 kHz waveform of the words and one `WordSpan` for each.

        Raises:
            SpeechError: the voice does not exist or gave no sound.
        """
        if self._lib.espeak_SetVoiceByName(voice.name.encode()) != 0:
            raise SpeechError(f"espeak-ng has no voice {voice.name!r}; run: apt-get install espeak-ng-data")
        for parameter, value in (
            (_RATE, voice.rate_wpm),
            (_PITCH, voice.pitch),
            (_RANGE, voice.pitch_range),
            (_WORDGAP, voice.word_gap),
        ):
            self._lib.espeak_SetParameter(parameter, value, 0)
        _LIBC.srand(1)  # the Klatt voices draw their breath noise from rand(): same words, same samples
        encoded = " ".join(words).encode()
        self._lib.espeak_Synth(encoded, len(encoded) + 1, 0, _POS_CHARACTER, 0, _UTF8, None, None)
        if not self._pieces:
            raise SpeechError(f"espeak-ng voice {voice.name!r} gave no sound for {encoded.decode()!r}")
        wave = np.concatenate(self._pieces).astype(np.float32) / 32768.0
        spans = self._spans(words, len(wave))
        return resample(wave, self.rate_hz), spans

    def _spans(self, words: Sequence[str], n_samples: int) -> list[WordSpan]:
        """Match events to words by character position; words without an event share the span of the one before."""
        offsets, position = [], 0
        for word in words:
            offsets.append(position)
            position += len(word) + 1
        starts: list[int | None] = [None] * len(words)
        for character, sample in self._words:
            index = int(np.searchsorted(offsets, character, side="right")) - 1
            if index >= 0 and starts[index] is None:
                starts[index] = sample
        return _fill_spans(words, starts, sorted(self._pauses), n_samples, self.rate_hz)


def _fill_spans(
    words: Sequence[str], starts: list[int | None], pauses: list[int], n_samples: int, rate_hz: int
) -> list[WordSpan]:
    if starts[0] is None:
        starts[0] = 0
    spans: list[WordSpan] = []
    index = 0
    while index < len(words):
        last = index + 1
        while last < len(words) and starts[last] is None:
            last += 1
        begin = starts[index] or 0
        end = (starts[last] or n_samples) if last < len(words) else n_samples
        end = next((pause for pause in pauses if begin < pause < end), end)
        lengths = np.cumsum([0.0] + [len(word) for word in words[index:last]])
        edges = (begin + (end - begin) * lengths / lengths[-1]) / rate_hz
        exact = last == index + 1
        spans += [WordSpan(float(edges[i]), float(edges[i + 1]), exact) for i in range(last - index)]
        index = last
    return spans


class Flite:
    """The flite library with its CMU voices (English)."""

    VOICES = ("kal16", "awb", "rms", "slt")

    def __init__(self) -> None:
        for name in ("libflite.so.1", "libflite_usenglish.so.1", "libflite_cmulex.so.1"):
            library = load_library([name], "flite")
            if name == "libflite.so.1":
                self._lib = library
        for function in ("flite_synth_text", "utt_wave", "utt_relation", "relation_head", "item_next"):
            getattr(self._lib, function).restype = ctypes.c_void_p
        self._lib.ffeature_float.restype = ctypes.c_float
        self._lib.flite_init()
        self._voices: dict[str, int] = {}

    def _voice(self, name: str) -> int:
        if name not in self._voices:
            library = load_library([f"libflite_cmu_us_{name}.so.1"], "flite")
            register = getattr(library, f"register_cmu_us_{name}")
            register.restype = ctypes.c_void_p
            self._voices[name] = register(None)
        return self._voices[name]

    def read(self, words: Sequence[str], voice: Voice) -> tuple[Waveform, list[WordSpan]]:
        """Return the 16 kHz waveform of the words and one `WordSpan` for each; see `Espeak.read`."""
        lib = self._lib
        handle = ctypes.c_void_p(self._voice(voice.name))
        utterance = lib.flite_synth_text(" ".join(words).encode(), handle)
        if not utterance:
            raise SpeechError(f"flite voice {voice.name!r} gave no sound for {' '.join(words)!r}")
        wave = ctypes.cast(lib.utt_wave(ctypes.c_void_p(utterance)), ctypes.POINTER(_FliteWave)).contents
        samples = np.ctypeslib.as_array(wave.samples, (wave.num_samples,)).astype(np.float32) / 32768.0
        edges = self._word_edges(utterance)
        rate_hz = int(wave.sample_rate)
        lib.delete_utterance(ctypes.c_void_p(utterance))
        if len(edges) != len(words):
            raise SpeechError(f"flite split {' '.join(words)!r} into {len(edges)} words")
        stretch = 175 / voice.rate_wpm  # flite's own speed control would need a per-voice feature; resampling is enough
        spans = [WordSpan(start * stretch, end * stretch, True) for start, end in edges]
        return resample(samples, round(rate_hz / stretch)), spans

    def _word_edges(self, utterance: int) -> list[tuple[float, float]]:
        lib = self._lib
        item = lib.relation_head(ctypes.c_void_p(lib.utt_relation(ctypes.c_void_p(utterance), b"Word")))
        edges = []
        while item:
            path = b"R:SylStructure.daughter1.daughter1.R:Segment.p.end"
            start = lib.ffeature_float(ctypes.c_void_p(item), path)
            end = lib.ffeature_float(ctypes.c_void_p(item), b"R:SylStructure.daughtern.daughtern.R:Segment.end")
            edges.append((float(start), float(end)))
            item = lib.item_next(ctypes.c_void_p(item))
        return edges


class _FliteWave(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_char_p),
        ("sample_rate", ctypes.c_int),
        ("num_samples", ctypes.c_int),
        ("num_channels", ctypes.c_int),
        ("samples", ctypes.POINTER(ctypes.c_short)),
    ]


def resample(wave: Waveform, rate_hz: int) -> Waveform:
    """Return the waveform at 16 kHz."""
    return np.asarray(soxr.resample(wave, rate_hz, SAMPLE_RATE, quality="HQ"), dtype=np.float32)


@cache
def flite() -> Flite:
    """Return this process's flite."""
    return Flite()


def read_aloud(words: Sequence[str], voice: Voice) -> tuple[Waveform, list[WordSpan]]:
    """Return (n_samples,) float32 speech at 16 kHz and one `WordSpan` for each of the words.

    Raises:
        SpeechError: a library or voice is missing (the message names the Debian package), or there was no sound.
    """
    if voice.engine == "flite":
        return flite().read(words, voice)
    espeak = Espeak()
    try:
        return espeak.read(words, voice)
    finally:
        espeak.close()
