"""Trains the miniature transcriber from nothing on the rendered corpus.

Flows in: a corpus folder. Flows out: ``train.pt`` (everything needed to go on after an interruption, rewritten every few
minutes), ``curve.jsonl`` and at the end the weights. Two single-thread processes average their gradients with gloo: two
OpenMP threads in one process wait for each other at every operation as soon as the machine has other work to do.
"""

import datetime
import json
import os
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn
from tqdm import tqdm

from mini.batches import (
    IGNORE,
    LETTERS,
    N_WORD_CLASSES,
    Batch,
    CorpusReader,
    ExampleMaker,
    collate,
    n_audio_tokens,
    plan_batches,
)
from mini.model import Dimensions, new_transcriber
from mini.network import decode_states, encode
from mini.vocabulary import Vocabulary

N_RANKS = 2
GLOO_TIMEOUT = datetime.timedelta(hours=2)  # a laptop may sleep, a benchmark may stop us


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """One training run; the learning rate follows the share of `n_steps` done, never the clock."""

    folder: Path
    seed: int
    n_steps: int
    peak_rate: float = 1.2e-3
    floor: float = 0.02
    warm_up: int = 200
    decay: float = 0.03
    save_every_s: float = 180.0
    bf16: bool = False


class Heads(nn.Module):
    """Throw-away heads on the encoder that make it listen early: BPE by CTC, and the word and letter of every frame."""

    def __init__(self, dims: Dimensions) -> None:
        super().__init__()
        self.ctc = nn.Linear(dims.d_model, dims.vocab)
        self.word = nn.Linear(dims.d_model, N_WORD_CLASSES)
        self.letter = nn.Linear(dims.d_model, len(LETTERS) + 1)

    def losses(self, states: torch.Tensor, batch: Batch, lengths: list[int], blank: int) -> dict[str, torch.Tensor]:
        """Return the three auxiliary losses for packed encoder states [N, d_model]."""
        log_probs = F.log_softmax(self.ctc(states).float(), -1)
        padded = nn.utils.rnn.pad_sequence(list(log_probs.split(lengths)))
        targets = torch.tensor([token for answer in batch.answers for token in answer], dtype=torch.long)
        counts = torch.tensor([len(answer) for answer in batch.answers])
        ctc = F.ctc_loss(padded, targets, torch.tensor(lengths), counts, blank, reduction="sum", zero_infinity=True)
        word = F.cross_entropy(self.word(states).float(), batch.word_frames, ignore_index=IGNORE)
        letter = F.cross_entropy(self.letter(states).float(), batch.letter_frames)
        return {"ctc": ctc / max(1, len(targets)), "word": word, "letter": letter}


def auxiliary_weight(progress: float) -> float:
    """Return the weight of the throw-away heads: full to 70 % of the steps, gone from 88 % on."""
    return float(np.clip((0.88 - progress) / 0.18, 0.0, 1.0))


def learning_rate(step: int, options: TrainOptions) -> float:
    """Return the rate at a step: linear warm-up, then a cosine down to the floor."""
    if step < options.warm_up:
        return options.peak_rate * (step + 1) / options.warm_up
    progress = (step - options.warm_up) / max(1, options.n_steps - options.warm_up)
    return float(options.peak_rate * (options.floor + (1 - options.floor) * 0.5 * (1 + np.cos(np.pi * progress))))


def optimiser(modules: list[nn.Module], decay: float) -> torch.optim.AdamW:
    """Return AdamW with weight decay on matrices only."""
    parameters = [p for module in modules for p in module.parameters()]
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.98), fused=True)


def average_gradients(parameters: list[nn.Parameter]) -> None:
    """Replace every gradient by its mean over the processes, in one flat message."""
    flat = torch.cat([(p.grad if p.grad is not None else torch.zeros_like(p)).reshape(-1) for p in parameters])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    offset = 0
    for p in parameters:
        p.grad = flat[offset : offset + p.numel()].view_as(p)
        offset += p.numel()


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Write a training state so that an interruption leaves the old or the new file, never half of one."""
    temporary = path.with_suffix(".tmp")
    torch.save(state, temporary)
    temporary.replace(path)


class Trainer:
    """One process of a training run."""

    def __init__(self, rank: int, options: TrainOptions) -> None:
        self.rank, self.options = rank, options
        torch.manual_seed(options.seed)
        self.vocabulary = Vocabulary.load(options.folder / "vocabulary")
        self.reader = CorpusReader(options.folder / "corpus")
        self.maker = ExampleMaker(self.reader, self.vocabulary)
        self.dims = Dimensions()
        self.model = new_transcriber(self.dims, self.vocabulary).train()
        self.heads = Heads(self.dims)
        self.parameters = [p for module in (self.model, self.heads) for p in module.parameters()]
        self.optimiser = optimiser([self.model, self.heads], options.decay)
        self.step, self.cpu_s, self.wall_s = 0, 0.0, 0.0
        self.path = options.folder / "train.pt"
        if self.path.exists():
            self._resume()

    def _resume(self) -> None:
        state = torch.load(self.path, weights_only=True)
        for module, key in ((self.model, "model"), (self.heads, "heads"), (self.optimiser, "optimiser")):
            module.load_state_dict(state[key])
        self.step, self.cpu_s, self.wall_s = state["step"], state["cpu_s"], state["wall_s"]

    def save(self, cpu_s: float, wall_s: float) -> None:
        """Store the state of the run; called by rank 0 only."""
        state = {
            "model": self.model.state_dict(), "heads": self.heads.state_dict(),
            "optimiser": self.optimiser.state_dict(), "step": self.step, "cpu_s": cpu_s, "wall_s": wall_s,
            "dimensions": asdict(self.dims), "n_steps": self.options.n_steps,
        }  # fmt: skip
        save_state(self.path, state)

    def batch(self, rows: list[int]) -> Batch:
        """Return this step's batch; its randomness depends on seed, step and rank alone."""
        rng = np.random.default_rng([self.options.seed, self.step, self.rank])
        examples = [self.maker.make(self.reader.rows[i], rng) for i in rows]
        return collate(examples, self.vocabulary.ids["<|endoftext|>"])

    def losses(self, batch: Batch) -> dict[str, torch.Tensor]:
        """Return the decoder's cross-entropy ("ce"), its token accuracy ("acc") and the auxiliary losses."""
        with torch.autocast("cpu", torch.bfloat16, enabled=self.options.bf16):
            states = encode(self.model.model.audio_tower, batch.mels, batch.n_frames)
            hidden = decode_states(self.model.model, batch.ids, states, self.vocabulary.ids["<|audio_pad|>"])
            asked = batch.labels != IGNORE
            logits = self.model.lm_head(hidden[asked]).float()
        targets = batch.labels[asked]
        found = {"ce": F.cross_entropy(logits, targets), "acc": (logits.argmax(-1) == targets).float().mean()}
        if auxiliary_weight(self.step / self.options.n_steps) > 0:
            lengths = [n_audio_tokens(n) for n in batch.n_frames]
            found |= self.heads.losses(states, batch, lengths, self.vocabulary.ids["<|endoftext|>"])
        return found

    def update(self, rows: list[int]) -> dict[str, float]:
        """Do one step and return its losses."""
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(self.step, self.options)
        self.optimiser.zero_grad(set_to_none=True)
        found = self.losses(self.batch(rows))
        weight = auxiliary_weight(self.step / self.options.n_steps)
        total = found["ce"]
        if weight > 0:
            total = total + weight * (0.3 * found["ctc"] + found["word"] + found["letter"])
        total.backward()  # type: ignore[no-untyped-call]
        average_gradients(self.parameters)
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimiser.step()
        self.step += 1
        return {name: float(value.detach()) for name, value in found.items()}


def run_rank(rank: int, options: TrainOptions) -> None:
    """Train as process `rank` until `options.n_steps` steps are done."""
    torch.set_num_threads(1)
    store = dist.TCPStore("127.0.0.1", int(os.environ["MINI_PORT"]), N_RANKS, rank == 0, GLOO_TIMEOUT)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=N_RANKS, timeout=GLOO_TIMEOUT)
    trainer = Trainer(rank, options)
    batches = plan_batches(trainer.reader.rows, options.seed, options.n_steps, N_RANKS)
    began, before_cpu_s, before_wall_s = time.monotonic(), trainer.cpu_s, trainer.wall_s
    saved, sums, audio_s = began, [], 0.0
    progress = tqdm(total=options.n_steps, initial=trainer.step, desc="train", disable=rank > 0, mininterval=5)
    while trainer.step < options.n_steps:
        rows = batches[trainer.step][rank]
        sums.append(trainer.update(rows))
        audio_s += sum(trainer.reader.rows[i]["n_frames"] for i in rows) / 100
        progress.update()
        cpu_s = before_cpu_s + N_RANKS * time.process_time()
        wall_s = before_wall_s + time.monotonic() - began
        if rank == 0 and trainer.step % 100 == 0:
            _log(options.folder / "curve.jsonl", trainer.step, wall_s, cpu_s, audio_s, sums)
            sums.clear()
        if rank == 0 and (time.monotonic() - saved > options.save_every_s or trainer.step == options.n_steps):
            trainer.save(cpu_s, wall_s)
            saved = time.monotonic()
    dist.destroy_process_group()


def _log(path: Path, step: int, wall_s: float, cpu_s: float, audio_s: float, sums: list[dict[str, float]]) -> None:
    row: dict[str, float] = {"step": step, "wall_s": round(wall_s), "cpu_s": round(cpu_s), "audio_s": round(audio_s)}
    for name in ("ce", "acc", "ctc", "word", "letter"):
        values = [entry[name] for entry in sums if name in entry]
        if values:
            row[name] = round(float(np.mean(values)), 4)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def train(options: TrainOptions) -> None:
    """Train to the end in `N_RANKS` processes, going on from ``train.pt`` when there is one."""
    os.environ.setdefault("MINI_PORT", str(29500 + os.getpid() % 500))
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    torch.multiprocessing.spawn(run_rank, args=(options,), nprocs=N_RANKS, join=True)
    print(f"trained {options.n_steps} steps; state in {options.folder / 'train.pt'}", file=sys.stderr)
