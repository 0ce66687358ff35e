"""The training task of the transcriber: its modules, its batches and its losses.

Flows in: the working folder (corpus and vocabulary). Flows out: what `mini.training.train` needs to run steps. `Task`
is the seam: the aligner is the other implementation (`mini.training.aligner_task`).
"""

from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from mini.language.grammar import Rng
from mini.language.vocabulary import Vocabulary
from mini.training.batches import (
    IGNORE,
    LETTERS,
    N_WORD_CLASSES,
    CorpusReader,
    ExampleMaker,
    TrainingBatch,
    collate,
    n_audio_tokens,
    plan_batches,
)
from mini.training.model import Dimensions, new_transcriber
from mini.training.network import decode_layers, encode, low_precision_copy


class Task(Protocol):
    """What one training run trains, and on what.

    `live` is the network that computes: `model` itself, or its bfloat16 copy, which gets the new weights every step.
    """

    dims: Dimensions
    model: Any
    live: Any
    heads: Any

    def plan(self, seed: int, n_steps: int, n_ranks: int) -> list[list[list[int]]]:
        """Return for every step and rank the row numbers of its batch."""
        ...

    def losses(self, rows: list[int], rng: Rng, progress: float) -> dict[str, torch.Tensor]:
        """Return the losses of one batch; "total" is the one to minimise. `progress` is the share of steps done."""
        ...


class Heads(nn.Module):
    """Throw-away heads on the encoder that make it listen early: BPE by CTC, and the word and letter of every frame."""

    def __init__(self, dims: Dimensions) -> None:
        super().__init__()
        self.ctc = nn.Linear(dims.d_model, dims.vocab)
        self.word = nn.Linear(dims.d_model, N_WORD_CLASSES)
        self.letter = nn.Linear(dims.d_model, len(LETTERS) + 1)

    def losses(
        self, states: torch.Tensor, batch: TrainingBatch, lengths: list[int], blank: int
    ) -> dict[str, torch.Tensor]:
        """Return the three auxiliary losses for packed encoder states [N, d_model]."""
        log_probs = F.log_softmax(self.ctc(states), -1)
        padded = nn.utils.rnn.pad_sequence(list(log_probs.split(lengths)))
        targets = torch.tensor([token for answer in batch.answers for token in answer], dtype=torch.long)
        counts = torch.tensor([len(answer) for answer in batch.answers])
        ctc = F.ctc_loss(padded, targets, torch.tensor(lengths), counts, blank, reduction="sum", zero_infinity=True)
        word = F.cross_entropy(self.word(states), batch.word_frames, ignore_index=IGNORE)
        letter = F.cross_entropy(self.letter(states), batch.letter_frames)
        return {"ctc": ctc / max(1, len(targets)), "word": word, "letter": letter}


def auxiliary_weight(progress: float) -> float:
    """Return the weight of the throw-away heads: full to 70 % of the steps, gone from 88 % on."""
    return float(np.clip((0.88 - progress) / 0.18, 0.0, 1.0))


class TranscriberTask:
    """Speech to ``language X<asr_text>...``: decoder cross-entropy plus the throw-away heads."""

    def __init__(self, folder: Path, bf16: bool, dims: Dimensions) -> None:
        self.vocabulary = Vocabulary.load(folder / "vocabulary")
        self.reader = CorpusReader(folder / "corpus")
        self.maker = ExampleMaker(self.reader, self.vocabulary)
        self.dims = dims
        self.model: Any = new_transcriber(self.dims, self.vocabulary).train()
        self.heads: Any = Heads(self.dims)
        self.live: Any = low_precision_copy(self.model) if bf16 else self.model

    def plan(self, seed: int, n_steps: int, n_ranks: int) -> list[list[list[int]]]:
        """See `Task.plan`."""
        return plan_batches(self.reader.rows, seed, n_steps, n_ranks)

    def losses(self, rows: list[int], rng: Rng, progress: float) -> dict[str, torch.Tensor]:
        """See `Task.losses`; "ce" is the decoder's cross-entropy and "acc" its token accuracy."""
        ids = self.vocabulary.ids
        batch = collate([self.maker.make(self.reader.rows[i], rng) for i in rows], ids["<|endoftext|>"])
        core = self.live.model
        states = encode(core.audio_tower, batch.mels, batch.n_frames)
        hidden = decode_layers(core, batch.ids, states, ids["<|audio_pad|>"])[-1]
        asked = batch.labels != IGNORE
        logits = self.live.lm_head(hidden[asked]).float()
        targets = batch.labels[asked]
        found = {"ce": F.cross_entropy(logits, targets), "acc": (logits.argmax(-1) == targets).float().mean()}
        total, weight = found["ce"], auxiliary_weight(progress)
        if weight > 0:
            lengths = [n_audio_tokens(n) for n in batch.n_frames]
            found |= self.heads.losses(states.float(), batch, lengths, ids["<|endoftext|>"])
            total = total + weight * (0.3 * found["ctc"] + found["word"] + found["letter"])
        return found | {"total": total}
