"""The training task of the forced aligner: when does every word start and end.

Flows in: the working folder and the trained transcriber. Flows out: a `mini.training.transcriber_task.Task`. The input
is that of Qwen3-ForcedAligner, ``<|audio_start|>pads<|audio_end|>word<timestamp><timestamp>word...``, and the
answer is read from the classes (80 ms each) at the timestamp tokens.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import nn

from mini.language.grammar import Rng
from mini.language.sentences import bare
from mini.language.vocabulary import Vocabulary
from mini.speech.features import Mel
from mini.training.batches import CorpusReader, Row, n_audio_tokens, pad_mels, plan_batches, token_times_s
from mini.training.model import SEGMENT_MS, Dimensions, new_aligner
from mini.training.network import decode_layers, encode, low_precision_copy

TIME_CLASSES = 1024  # 82 s
LONGEST_FRAMES, LONGEST_FIRST_FRAMES = 2600, 1000  # absolute time is learned first in clips under 10 s
SHORT_UNTIL, CLOCK_UNTIL = 0.45, 0.85  # shares of the steps
SOFTNESS = 0.7  # classes; the target is a bump around the true time, so that a near miss costs less than a far one


@dataclass(frozen=True, slots=True)
class AlignExample:
    """One clip for the aligner: mel, token ids, the positions of the slots, their true times in s (NaN: unknown)."""

    mel: Mel
    ids: list[int]
    slots: list[int]
    times_s: list[float]


def align_ids(vocabulary: Vocabulary, n_audio: int, units: list[str]) -> tuple[list[int], list[int]]:
    """Return the aligner's input ids for cleaned words, and the positions of its timestamp slots."""
    start, pad, end = (vocabulary.ids[f"<|audio_{name}|>"] for name in ("start", "pad", "end"))
    ids = [start, *[pad] * n_audio, end]
    slots: list[int] = []
    for unit in units:
        ids += vocabulary.encode(unit)
        slots += [len(ids), len(ids) + 1]
        ids += [vocabulary.ids["<timestamp>"]] * 2
    return ids, slots


def clean_unit(word: str) -> str:
    """Return a written word as the aligner's splitter leaves it: letters, digits and apostrophes, case kept."""
    return "".join(c for c in word if c == "'" or bare(c))


def soft_targets(times_s: torch.Tensor, n_classes: int) -> torch.Tensor:
    """Return [n, n_classes] class distributions: a Gaussian bump around each time."""
    centres = torch.arange(n_classes) * (SEGMENT_MS / 1000)
    distance = (centres[None] - times_s[:, None]) / (SEGMENT_MS / 1000 * SOFTNESS)
    return torch.softmax(-0.5 * distance**2, -1)


class ClockHead(nn.Module):
    """Throw-away head that asks every audio position of a lower decoder layer for its own time."""

    def __init__(self, dims: Dimensions) -> None:
        super().__init__()
        self.time = nn.Linear(dims.hidden, dims.time_classes)


class AlignerTask:
    """Word times by classification, starting from the transcriber's weights."""

    def __init__(self, folder: Path, bf16: bool) -> None:
        self.vocabulary = Vocabulary.load(folder / "vocabulary")
        self.reader = CorpusReader(folder / "corpus")
        self.rows = [r for r in self.reader.rows if len(r["words"]) > 0 and r["n_frames"] < LONGEST_FRAMES]
        state = torch.load(folder / "train.pt", weights_only=True)
        self.dims = replace(Dimensions(**state["dimensions"]), time_classes=TIME_CLASSES)
        self.model: Any = new_aligner(self.dims, self.vocabulary).train()
        shared = {name: tensor for name, tensor in state["model"].items() if name.startswith("model.")}
        self.model.load_state_dict(shared, strict=False)
        torch.nn.init.normal_(self.model.score.weight, std=0.02)
        self.heads: Any = ClockHead(self.dims)
        self.live: Any = low_precision_copy(self.model) if bf16 else self.model

    def plan(self, seed: int, n_steps: int, n_ranks: int) -> list[list[list[int]]]:
        """See `Task.plan`; the encoder already hears words, so clips of all lengths under 10 s come from the start."""
        n_first = int(SHORT_UNTIL * n_steps)
        short = [i for i, row in enumerate(self.rows) if row["n_frames"] < LONGEST_FIRST_FRAMES]
        first = plan_batches([self.rows[i] for i in short], seed + 1, n_first, n_ranks, curriculum=False)
        steps = [[[short[i] for i in batch] for batch in ranks] for ranks in first]
        return steps + plan_batches(self.rows, seed + 2, n_steps - n_first, n_ranks, curriculum=False)

    def make(self, row: Row, rng: Rng) -> AlignExample:
        """Return one example with a random shift of the clip against the 1-second grid."""
        mel, words = self.reader.mel(row), row["words"]
        crop = int(rng.integers(0, min(40, int(row["lead_s"] * 100)) + 1))
        lead = int(rng.integers(0, 80)) if rng.random() < 0.6 else 0
        mel = mel[crop:] + np.float32(rng.uniform(-0.15, 0.1))
        mel = np.concatenate([np.repeat(mel[:1], lead, axis=0), mel])
        shift_s = (lead - crop) / 100
        ids, slots = align_ids(self.vocabulary, n_audio_tokens(len(mel)), [clean_unit(w[0]) for w in words])
        times: list[float] = []
        for _, _, start_s, end_s, exact in words:
            times += [start_s + shift_s, end_s + shift_s] if exact else [np.nan, np.nan]
        return AlignExample(mel, ids, slots, times)

    def losses(self, rows: list[int], rng: Rng, progress: float) -> dict[str, torch.Tensor]:
        """See `Task.losses`; "error_ms" is the mean absolute error of the most likely classes."""
        examples = [self.make(self.rows[i], rng) for i in rows]
        ids = torch.full((len(examples), max(len(e.ids) for e in examples)), self.vocabulary.ids["<|endoftext|>"])
        for i, example in enumerate(examples):
            ids[i, : len(example.ids)] = torch.tensor(example.ids)
        core, pad = self.live.model, self.vocabulary.ids["<|audio_pad|>"]
        n_frames = [len(e.mel) for e in examples]
        audio = encode(core.audio_tower, pad_mels([e.mel for e in examples]), n_frames)
        layers = decode_layers(core, ids, audio, pad)
        times = torch.tensor(np.concatenate([e.times_s for e in examples]), dtype=torch.float32)
        where = torch.tensor([(i, slot) for i, e in enumerate(examples) for slot in e.slots])
        known = ~torch.isnan(times)
        chosen = layers[-1][where[known, 0], where[known, 1]]
        logits = self.live.score(chosen).float()
        loss = F.cross_entropy(logits, soft_targets(times[known], self.dims.time_classes))
        error_ms = (logits.argmax(-1) * SEGMENT_MS - times[known] * 1000).abs().mean()
        found = {"ce": loss, "error_ms": error_ms, "total": loss}
        if progress < CLOCK_UNTIL:
            clock = self._clock_loss(layers[0][ids == pad], n_frames)
            found |= {"clock": clock, "total": loss + 0.5 * clock}
        return found

    def _clock_loss(self, states: torch.Tensor, n_frames: list[int]) -> torch.Tensor:
        times: npt.NDArray[np.float64] = np.concatenate([token_times_s(n) for n in n_frames])
        targets = soft_targets(torch.tensor(times, dtype=torch.float32), self.dims.time_classes)
        return F.cross_entropy(self.heads.time(states.float()), targets)
