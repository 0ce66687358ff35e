"""Training batches: which clips go together at which step, and what the network is shown and asked for each clip.

Flows in: the corpus folder and a `Vocabulary`. Flows out: `TrainingBatch` values. Everything is a function of (seed,
step, rank), so a resumed training sees exactly the batches an uninterrupted one would have seen.
"""

import collections
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from mini.language.grammar import Rng
from mini.language.sentences import GRAMMARS, bare, default_spelling, draw_context, respell, written_name
from mini.language.vocabulary import Vocabulary
from mini.speech.build import read_rows
from mini.speech.corpus import NO_LANGUAGE
from mini.speech.features import Mel, stretch_spectrum

Row = dict[str, Any]

FRAMES_PER_BATCH = 2400  # padded mel frames of one process and step
MOST_CLIPS = 28
STORY_FRAMES = 600  # longer clips have several sentences; from half of the steps on they come more often
STORIES_FROM = 0.49
STRETCHED, STRETCH = 0.5, 0.08  # share of the clips heard from a longer or shorter vocal tract, and by how much at most
ANY_LENGTH = 10**9
LETTERS = "abcdefghijklmnopqrstuvwxyzäöüß'"
N_WORD_CLASSES = 800  # silence, then the most frequent spoken words; the rest is left to the letters
IGNORE = -100


@dataclass(frozen=True, slots=True)
class Example:
    """One clip as the network sees it; `labels` has IGNORE where no answer is asked."""

    mel: Mel
    ids: list[int]
    labels: list[int]
    answer: list[int]
    word_frames: npt.NDArray[np.int64]
    letter_frames: npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class TrainingBatch:
    """Right-padded examples: mels [B, 128, T], n_frames [B], ids and labels [B, S], frame labels [sum of tokens]."""

    mels: torch.Tensor
    n_frames: list[int]
    ids: torch.Tensor
    labels: torch.Tensor
    answers: list[list[int]]
    word_frames: torch.Tensor
    letter_frames: torch.Tensor


def n_audio_tokens(n_frames: int) -> int:
    """Return the number of encoder tokens for a clip: 13 a second, one per started 8 frames in the last second."""
    return 13 * (n_frames // 100) + -(-(n_frames % 100) // 8)


def token_times_s(n_frames: int) -> npt.NDArray[np.float64]:
    """Return the centre time of every encoder token in seconds."""
    index = np.arange(n_audio_tokens(n_frames))
    return np.asarray(index // 13 + 0.08 * (index % 13), dtype=np.float64)


class CorpusReader:
    """Rows and features of a corpus folder; features stay on disk and are mapped."""

    def __init__(self, folder: Path) -> None:
        self.rows: list[Row] = read_rows(folder)
        self._shards = {name: np.load(folder / name, mmap_mode="r") for name in {row["shard"] for row in self.rows}}
        counts = collections.Counter(word[1].lower() for row in self.rows for word in row["words"])
        self.word_classes = {word: 1 + i for i, (word, _) in enumerate(counts.most_common(N_WORD_CLASSES - 1))}

    def mel(self, row: Row, first: int = 0, last: int | None = None) -> Mel:
        """Return frames `first` to `last` of a clip as (n_frames, 128) float32."""
        stop = row["n_frames"] if last is None else last
        piece = self._shards[row["shard"]][row["offset"] + first : row["offset"] + stop]
        return np.asarray(piece, dtype=np.float32)


def longest_frames(step: int, n_steps: int) -> int:
    """Return the longest clip of the curriculum at a step: words first, then sentences, then stories."""
    if step < 60:
        return 170
    if step < 400:
        return 300
    if step < 0.12 * n_steps:
        return 800
    return 2600 if step < 0.40 * n_steps else ANY_LENGTH


def plan_batches(
    rows: list[Row], seed: int, n_steps: int, n_ranks: int, curriculum: bool = True
) -> list[list[list[int]]]:
    """Return for every step and rank the row numbers of its batch; without curriculum, all clips from the start."""
    rng = np.random.default_rng([seed, 77])
    lengths = np.array([row["n_frames"] for row in rows])
    steps: list[list[list[int]]] = []
    while len(steps) < n_steps:
        limit = longest_frames(len(steps), n_steps) if curriculum else ANY_LENGTH
        chosen = lengths < max(limit, int(np.sort(lengths)[n_ranks - 1]) + 1)
        if curriculum and len(steps) > STORIES_FROM * n_steps:  # keeping one's place in many sentences is learned last
            chosen &= (lengths > STORY_FRAMES) | (rng.random(len(lengths)) < 0.6)
        allowed = np.flatnonzero(chosen)
        noisy = lengths[allowed] * np.exp(rng.uniform(-0.1, 0.1, len(allowed)))
        batches: list[list[int]] = [[]]
        longest = 0
        for row_index in allowed[np.argsort(noisy)]:
            longest = max(longest, int(lengths[row_index]))
            full = longest * (len(batches[-1]) + 1) > FRAMES_PER_BATCH or len(batches[-1]) == MOST_CLIPS
            if batches[-1] and full:
                batches.append([])
                longest = int(lengths[row_index])
            batches[-1].append(int(row_index))
        if len(batches) < n_ranks:  # a toy corpus: every process gets the same
            batches = batches * n_ranks
        order = rng.permutation(len(batches) - len(batches) % n_ranks)
        for group in order.reshape(-1, n_ranks):
            steps.append([batches[i] for i in group])
            if curriculum and longest_frames(len(steps), n_steps) != limit:
                break
    return steps[:n_steps]


class ExampleMaker:
    """Turns rows into examples, drawing the crop, the level, the vocal tract, an early end and the forced prefix.

    Rare names are spelled anew every time and the context with them: the sound cannot tell the spelling any more, and
    what was learned about one clip does not help with the next.
    """

    def __init__(self, reader: CorpusReader, vocabulary: Vocabulary) -> None:
        self.reader, self.vocabulary = reader, vocabulary
        self._letter = {letter: 1 + i for i, letter in enumerate(LETTERS)}
        self._end = vocabulary.ids["<|im_end|>"]

    def make(self, row: Row, rng: Rng) -> Example:
        """Return one randomly varied example of a row."""
        if row["rare_name"]:
            row = respelled(row, rng)
        crop = int(rng.integers(0, min(30, int(row["lead_s"] * 100)) + 1)) if row["words"] else 0
        words, text, last = row["words"], row["text"], row["n_frames"]
        whole = row["kind"] == "mixed" or row["rare_name"]
        if len(words) > 3 and rng.random() < 0.07 and not whole:
            keep = int(rng.integers(2, len(words)))
            last = min(last, math.ceil(words[keep - 1][3] * 100) + int(rng.integers(2, 8)))
            words = words[:keep]
            text = GRAMMARS[row["language"]].joiner.join(word[0] for word in words)
        mel = self.reader.mel(row, crop, max(last, crop + 50))
        if row["language"] != NO_LANGUAGE:
            mel = mel + np.float32(rng.uniform(-0.15, 0.1))
            if rng.random() < STRETCHED:
                mel = stretch_spectrum(mel, float(rng.uniform(1 - STRETCH, 1 + STRETCH)))
        language = row["language"]
        prompt = self.vocabulary.prompt(n_audio_tokens(len(mel)), row["context"])
        prefix = self.vocabulary.encode(f"language {language}<asr_text>")
        answer = self.vocabulary.encode(text)
        ids = prompt + prefix + answer + [self._end]
        forced = language != NO_LANGUAGE and rng.random() < 0.25
        asked = len(prompt) + (len(prefix) if forced else 0)
        labels = [IGNORE] * (asked - 1) + ids[asked:] + [IGNORE]
        return Example(mel, ids, labels, answer, *self._frame_labels(words, len(mel), crop / 100))

    def _frame_labels(
        self, words: list[Any], n_frames: int, shift_s: float
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        times = token_times_s(n_frames) + shift_s
        word_frames = np.zeros(len(times), np.int64)
        letter_frames = np.zeros(len(times), np.int64)
        for _, spoken, start_s, end_s, _ in words:
            inside = np.flatnonzero((times >= start_s) & (times < end_s))
            word_frames[inside] = self.reader.word_classes.get(spoken.lower(), IGNORE)
            letters = [self._letter[c] for c in bare(spoken) if c in self._letter]
            if letters and len(inside):
                position = (times[inside] - start_s) / (end_s - start_s) * len(letters)
                letter_frames[inside] = np.array(letters)[np.minimum(position.astype(int), len(letters) - 1)]
        return word_frames, letter_frames


def respelled(row: Row, rng: Rng) -> Row:
    """Return the row with its rare name spelled anew; one in four times without context, in the default spelling."""
    language, name = row["language"], row["rare_name"]
    new = respell(rng, language, name)
    context = ""
    if rng.random() < 0.25:
        new = default_spelling(language, name)
    else:
        context = draw_context(rng, language, new)
    text = row["text"].replace(written_name(name), written_name(new), 1)
    return row | {"rare_name": new, "text": text, "context": context}


def pad_mels(mels: list[Mel]) -> torch.Tensor:
    """Return [B, 128, T], T a multiple of 100, padded with 0.0 as the reference does."""
    longest = -(-max(len(mel) for mel in mels) // 100) * 100
    out = np.zeros((len(mels), 128, longest), np.float32)
    for row, mel in enumerate(mels):
        out[row, :, : len(mel)] = mel.T
    return torch.from_numpy(out)


def collate(examples: list[Example], pad_id: int) -> TrainingBatch:
    """Return the examples as one right-padded batch."""
    longest = max(len(example.ids) for example in examples)
    ids = torch.full((len(examples), longest), pad_id, dtype=torch.long)
    labels = torch.full((len(examples), longest), IGNORE, dtype=torch.long)
    for row, example in enumerate(examples):
        ids[row, : len(example.ids)] = torch.tensor(example.ids)
        labels[row, : len(example.labels)] = torch.tensor(example.labels)
    return TrainingBatch(
        mels=pad_mels([example.mel for example in examples]),
        n_frames=[len(example.mel) for example in examples],
        ids=ids,
        labels=labels,
        answers=[example.answer for example in examples],
        word_frames=torch.from_numpy(np.concatenate([example.word_frames for example in examples])),
        letter_frames=torch.from_numpy(np.concatenate([example.letter_frames for example in examples])),
    )
