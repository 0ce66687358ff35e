"""When the sentences and clauses of a segment are spoken, without an aligner: text and its audio in, phrases out.

People pause where a sentence ends and often where a clause does, and speak about evenly between. So the gaps between
words are matched with the silences of the audio: the likeliest matching is found by dynamic programming over the
lengths of the stretches between matched gaps, as Gale and Church align sentences by their lengths ("A Program for
Aligning Sentences in Bilingual Corpora", Computational Linguistics 19, 1993). What lies between is in proportion. It
is an estimate: nobody looked which words are said.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from qwen3_asr_onnx.arrays import SAMPLE_RATE, Waveform
from qwen3_asr_onnx.results import Phrase
from qwen3_asr_onnx.speech.silences import find_silences
from qwen3_asr_onnx.text.scripts import column_width

from .layout import ends_clause, ends_sentence
from .units import text_pieces

__all__ = ["estimate_phrases"]

Numbers = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]


class _Mark(IntEnum):
    """What stands between two words."""

    NONE = 0
    CLAUSE = 1
    SENTENCE = 2


# Costs, in nats: how unlikely each is. They were chosen on the miniature's voices, whose error hardly depends on them
# (halving or doubling any one of them changes the mean by a tenth).
_NO_SILENCE = np.array([0.0, 0.6, 2.5])
"""Nobody pauses at a gap with such a mark."""

_SILENCE = np.array([1.5, 0.3, 0.0])
"""Somebody does."""

_SILENCE_INSIDE_PER_S = 4.0
"""A silence is no gap between words: a closure inside one, noise that hid a soft syllable."""

_VARIANCE_S = 0.25
"""Variance of the length of a stretch, in square seconds per second of it: one of 4 s is wrong by 1 s."""

_LEAST_STRETCH_S = 0.2
"""A stretch is as uncertain as one that is longer by this: words are not spoken evenly."""

_WINDOW_S = 3.0
"""A gap is looked for this far from where it would be if the whole were even."""

_LOOK_BACK = 200
"""How many earlier pairs of gap and silence one may follow on: those of about 10 silences."""

_WORD_COLUMNS = 1
"""What every word takes beside its letters, in columns."""


def estimate_phrases(samples: Waveform, text: str, start_s: float) -> tuple[Phrase, ...]:
    """Return the sentences and clauses of a text, and what is said between two silences, with their estimated times.

    The phrases make up the text, white space between them left out. () for a text without letters or digits.

    Args:
        samples: (n_samples,) float32, mono, 16 kHz: the audio that holds the text and no more.
        text: what is said in it.
        start_s: where the audio begins, in seconds from the start of the input; phrases count from there too.
    """
    ranges = text_pieces(text)
    if not ranges:
        return ()
    words = [text[first:end].strip() for first, end in ranges]
    marks = [_mark_after(word, following) for word, following in pairwise(words)]
    columns = [_WORD_COLUMNS + sum(column_width(char) for char in word if char.isalnum()) for word in words]
    speech = _Speech.heard(samples)
    reached = np.concatenate([[0.0], np.cumsum(columns)])
    reached *= speech.spoken_s / reached[-1]
    gaps = _match(reached, np.array(marks, dtype=np.int64), speech)
    places = _places(reached, marks, speech, gaps)
    bounds = [0, *(place.word for place in places), len(words)]
    starts = [speech.start_s, *(place.end_s for place in places)]
    ends = [*(place.start_s for place in places), speech.end_s]
    return tuple(
        Phrase(text[ranges[first][0] : ranges[end - 1][1]].strip(), start_s + begin, start_s + max(begin, finish))
        for (first, end), begin, finish in zip(pairwise(bounds), starts, ends, strict=True)
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Speech:
    """Where somebody speaks. Times are seconds from the start of the audio.

    Attributes:
        times: (2 n + 2,): the first word begins, then begin and end of every silence, the last word ends.
        spoken: (2 n + 2,): seconds of speech up to each of them.
    """

    times: Numbers
    spoken: Numbers

    @classmethod
    def heard(cls, samples: Waveform) -> _Speech:
        """Return the speech of a clip; all of it is taken for speech where there is nothing but silence."""
        duration_s = samples.size / SAMPLE_RATE
        silences = list(find_silences(samples))
        start_s = silences.pop(0)[1] if silences and silences[0][0] == 0.0 else 0.0
        end_s = silences.pop()[0] if silences and silences[-1][1] == duration_s else duration_s
        if start_s >= end_s:
            start_s, end_s, silences = 0.0, duration_s, []
        times = np.array([start_s, *(edge for silence in silences for edge in silence), end_s])
        lengths = np.diff(times)
        lengths[1::2] = 0.0
        return cls(times, np.concatenate([[0.0], np.cumsum(lengths)]))

    @property
    def start_s(self) -> float:
        """When the first word begins."""
        return float(self.times[0])

    @property
    def end_s(self) -> float:
        """When the last word ends."""
        return float(self.times[-1])

    @property
    def spoken_s(self) -> float:
        """Seconds of speech."""
        return float(self.spoken[-1])

    @property
    def silences(self) -> Numbers:
        """(n, 2): begin and end of the silences."""
        return self.times[1:-1].reshape(-1, 2)

    def moment(self, spoken_s: float) -> float:
        """Return when so many seconds were spoken."""
        return float(np.interp(spoken_s, self.spoken, self.times))


@dataclass(frozen=True, slots=True)
class _Place:
    """The gap before a word: what is before it ends at `start_s`, the word begins at `end_s`."""

    word: int
    start_s: float
    end_s: float


def _mark_after(word: str, following: str) -> _Mark:
    if ends_sentence(word, following):
        return _Mark.SENTENCE
    return _Mark.CLAUSE if ends_clause(word) else _Mark.NONE


def _places(reached: Numbers, marks: Sequence[_Mark], speech: _Speech, gaps: Sequence[tuple[int, int]]) -> list[_Place]:
    """Return the gaps that have a silence or a mark: a silence is the place of its gap, a mark is set in proportion."""
    silences = speech.silences
    silence_of = dict(gaps)
    words = [0, *(word for word, _ in gaps), len(reached) - 1]
    spoken = [0.0, *(float(speech.spoken[2 * silence + 1]) for _, silence in gaps), speech.spoken_s]
    places: list[_Place] = []
    for word, mark in enumerate(marks, start=1):
        if word in silence_of:
            begin, end = silences[silence_of[word]].tolist()
            places.append(_Place(word, begin, end))
        elif mark is not _Mark.NONE:
            moment = speech.moment(float(np.interp(reached[word], reached[words], spoken)))
            places.append(_Place(word, moment, moment))
    return places


def _match(reached: Numbers, marks: Indices, speech: _Speech) -> list[tuple[int, int]]:
    """Return (word, silence) of the gaps between words in which somebody pauses: the word is the one after the gap.

    Args:
        reached: (n_words + 1,): seconds of speech before each word if all were even, and all of them.
        marks: (n_words - 1,): what stands in each gap.
        speech: of the audio.
    """
    silences, n_words = speech.silences, len(reached) - 1
    before = speech.spoken[1:-1:2]
    # Pairs of a word and a silence, in order; the start of the audio comes first and its end last.
    pairs = [(0, -1)]
    for silence, spoken_s in enumerate(before.tolist()):
        first, end = np.searchsorted(reached, [spoken_s - _WINDOW_S, spoken_s + _WINDOW_S])
        pairs += [(word, silence) for word in range(max(1, int(first)), min(n_words, int(end)))]
    pairs.append((n_words, len(silences)))
    word, silence = np.array(pairs).T
    spoken = np.array([0.0, *before, speech.spoken_s])[silence + 1]
    even = reached[word]
    # Sums over gaps without a silence and over silences without a gap, up to each pair and past it.
    unpaused = np.concatenate([[0.0, 0.0], np.cumsum(_NO_SILENCE[marks])])
    inside = np.concatenate([[0.0], np.cumsum(_SILENCE_INSIDE_PER_S * np.diff(silences).ravel())])
    own = np.concatenate([[0.0], _SILENCE[marks[word[1:-1] - 1]], [0.0]])
    best, origin = np.zeros(len(pairs)), np.zeros(len(pairs), dtype=np.int64)
    for at in range(1, len(pairs)):
        earlier = np.arange(max(0, at - _LOOK_BACK), at)
        earlier = earlier[(word[earlier] < word[at]) & (silence[earlier] < silence[at])]
        if not earlier.size:
            earlier = np.zeros(1, dtype=np.int64)
        expected = even[at] - even[earlier]
        cost = (spoken[at] - spoken[earlier] - expected) ** 2 / (2 * _VARIANCE_S * (expected + _LEAST_STRETCH_S))
        cost += unpaused[word[at]] - unpaused[word[earlier] + 1]
        cost += inside[silence[at]] - inside[silence[earlier] + 1]
        cost += best[earlier]
        chosen = int(np.argmin(cost))
        best[at], origin[at] = cost[chosen] + own[at], earlier[chosen]
    found = []
    at = int(origin[-1])
    while at:
        found.append((int(word[at]), int(silence[at])))
        at = int(origin[at])
    return found[::-1]
