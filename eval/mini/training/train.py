"""Runs the training steps of a task in two processes and keeps a state that survives interruptions.

Flows in: a `mini.training.transcriber_task.Task` and `TrainOptions`. Flows out: a state file (rewritten every few
minutes; a later call goes on from it) and a JSONL curve. Two single-thread processes average their gradients in shared
memory: two OpenMP threads in one process wait for each other at every operation as soon as the machine has other work
to do.
"""

import json
import os
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from mini.training.aligner_task import AlignerTask
from mini.training.model import Dimensions
from mini.training.transcriber_task import Task, TranscriberTask

N_RANKS = 2
BETAS, WEIGHT_DECAY, LARGEST_GRADIENT = (0.9, 0.98), 0.03, 1.0


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """One training run; the learning rate follows the share of `n_steps` done, never the clock."""

    task: Literal["transcriber", "aligner"]
    folder: Path
    seed: int
    n_steps: int
    peak_rate: float = 1.2e-3
    floor: float = 0.02
    warm_up: int = 200
    save_every_s: float = 180.0
    bf16: bool = False
    dims: Dimensions = field(default_factory=Dimensions)

    @property
    def state_path(self) -> Path:
        """Where the state of the run is kept."""
        return self.folder / {"transcriber": "train.pt", "aligner": "aligner.pt"}[self.task]

    @property
    def curve_path(self) -> Path:
        """Where the losses are logged, one JSON row every 100 steps."""
        return self.folder / ("curve.jsonl" if self.task == "transcriber" else f"{self.task}_curve.jsonl")


def learning_rate(step: int, options: TrainOptions) -> float:
    """Return the rate at a step: linear warm-up, then a cosine down to the floor."""
    if step < options.warm_up:
        return options.peak_rate * (step + 1) / options.warm_up
    progress = (step - options.warm_up) / max(1, options.n_steps - options.warm_up)
    return float(options.peak_rate * (options.floor + (1 - options.floor) * 0.5 * (1 + np.cos(np.pi * progress))))


def make_optimiser(parameters: list[nn.Parameter]) -> torch.optim.AdamW:
    """Return AdamW with weight decay on matrices only."""
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": WEIGHT_DECAY},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=0.0, betas=BETAS, fused=True)


class Exchange:
    """Memory in which the processes of a run average their gradients, and the barrier at which they meet.

    Every process adds up a share of the values, and nothing is allocated. An all-reduce over gloo's sockets gives the
    same bits and takes several times as long. It travels to the processes unopened.
    """

    def __init__(self, n_ranks: int) -> None:
        spawn = torch.multiprocessing.get_context("spawn")
        self._n_ranks, self._barrier, self._queue = n_ranks, spawn.Barrier(n_ranks), spawn.SimpleQueue()

    def open(self, rank: int, n_values: int) -> None:
        """Make the memory in process 0, take it over in the others: [n_ranks + 1, n_values] float32, the mean last."""
        if rank == 0:
            self.memory: torch.Tensor = torch.zeros(self._n_ranks + 1, n_values).share_memory_()
            for _ in range(1, self._n_ranks):
                self._queue.put(self.memory)
        else:
            self.memory = self._queue.get()
        self._own = self.memory[rank]
        share = slice(n_values * rank // self._n_ranks, n_values * (rank + 1) // self._n_ranks)
        self._to_add, self._added = self.memory[:-1, share], self.memory[-1, share]
        self._barrier.wait()  # the sender has to live until the memory has been taken over

    def mean(self, pieces: list[torch.Tensor]) -> torch.Tensor:
        """Return the mean over the processes of all pieces end to end, [n_values], to be read until the next call.

        Every process has to call it.
        """
        for place, piece in zip(self._own.split([piece.numel() for piece in pieces]), pieces, strict=True):
            place.copy_(piece)
        self._barrier.wait()
        torch.sum(self._to_add, 0, out=self._added).div_(self._n_ranks)
        self._barrier.wait()  # nobody reads the mean, or writes the next gradients, before everybody has added up
        return self.memory[-1]


def take_mean_gradients(live: list[nn.Parameter], parameters: list[nn.Parameter], exchange: Exchange) -> None:
    """Give `parameters` the gradients of their computing copies `live`, averaged over the processes and clipped."""
    mean = exchange.mean([torch.zeros(p.numel()) if p.grad is None else p.grad.reshape(-1) for p in live])
    scale = min(1.0, LARGEST_GRADIENT / (float(mean.norm()) + 1e-6))
    for p, piece in zip(parameters, mean.split([p.numel() for p in parameters]), strict=True):
        if p.grad is None:
            p.grad = torch.empty_like(p)
        torch.mul(piece.view_as(p), scale, out=p.grad)


def write_state(path: Path, state: dict[str, Any]) -> None:
    """Write a training state so that an interruption leaves the old or the new file, never half of one."""
    temporary = path.with_suffix(".tmp")
    torch.save(state, temporary)
    temporary.replace(path)


class Trainer:
    """One process of a training run."""

    def __init__(self, rank: int, options: TrainOptions, exchange: Exchange) -> None:
        self.rank, self.options, self.exchange = rank, options, exchange
        torch.manual_seed(options.seed)
        self.task: Task = (
            AlignerTask(options.folder, options.bf16)
            if options.task == "aligner"
            else TranscriberTask(options.folder, options.bf16, options.dims)
        )
        self.parameters = [p for module in (self.task.model, self.task.heads) for p in module.parameters()]
        self.live = [p for module in (self.task.live, self.task.heads) for p in module.parameters()]
        exchange.open(rank, sum(p.numel() for p in self.parameters))
        self.optimiser = make_optimiser(self.parameters)
        self.step, self.cpu_s, self.wall_s = 0, 0.0, 0.0
        if options.state_path.exists():
            self._resume(torch.load(options.state_path, weights_only=True))
        self._publish()

    def _publish(self) -> None:
        if self.task.live is not self.task.model:
            with torch.no_grad():
                for copy, original in zip(self.task.live.parameters(), self.task.model.parameters(), strict=True):
                    copy.copy_(original)

    def _resume(self, state: dict[str, Any]) -> None:
        self.task.model.load_state_dict(state["model"])
        self.task.heads.load_state_dict(state["heads"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.cpu_s, self.wall_s = state["step"], state["cpu_s"], state["wall_s"]

    def save(self, cpu_s: float, wall_s: float) -> None:
        """Store the state of the run; called by rank 0 only."""
        state = {
            "model": self.task.model.state_dict(), "heads": self.task.heads.state_dict(),
            "optimiser": self.optimiser.state_dict(), "step": self.step, "cpu_s": cpu_s, "wall_s": wall_s,
            "dimensions": asdict(self.task.dims), "n_steps": self.options.n_steps,
        }  # fmt: skip
        write_state(self.options.state_path, state)

    def update(self, rows: list[int]) -> dict[str, float]:
        """Do one step; its randomness depends on seed, step and rank alone. Returns the losses."""
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(self.step, self.options)
        for p in self.live:
            p.grad = None
        rng = np.random.default_rng([self.options.seed, self.step, self.rank])
        found = self.task.losses(rows, rng, self.step / self.options.n_steps)
        found.pop("total").backward()
        take_mean_gradients(self.live, self.parameters, self.exchange)
        self.optimiser.step()
        self._publish()
        self.step += 1
        return {name: float(value.detach()) for name, value in found.items()}


def run_rank(rank: int, options: TrainOptions, exchange: Exchange) -> None:
    """Train as process `rank` until `options.n_steps` steps are done."""
    torch.set_num_threads(1)
    trainer = Trainer(rank, options, exchange)
    batches = trainer.task.plan(options.seed, options.n_steps, N_RANKS)
    began, before_cpu_s, before_wall_s = time.monotonic(), trainer.cpu_s, trainer.wall_s
    saved, sums = began, []
    progress = tqdm(total=options.n_steps, initial=trainer.step, desc=options.task, disable=rank > 0, mininterval=5)
    while trainer.step < options.n_steps:
        sums.append(trainer.update(batches[trainer.step][rank]))
        progress.update()
        cpu_s = before_cpu_s + N_RANKS * time.process_time()
        wall_s = before_wall_s + time.monotonic() - began
        if rank == 0 and trainer.step % 100 == 0:
            _log(options.curve_path, trainer.step, wall_s, cpu_s, sums)
            sums.clear()
        if rank == 0 and (time.monotonic() - saved > options.save_every_s or trainer.step == options.n_steps):
            trainer.save(cpu_s, wall_s)
            saved = time.monotonic()


def steps_left(state_path: Path) -> int:
    """Return how many steps the run behind a training state still had to do."""
    state = torch.load(state_path, weights_only=True, mmap=True)
    return int(state["n_steps"]) - int(state["step"])


def _log(path: Path, step: int, wall_s: float, cpu_s: float, sums: list[dict[str, float]]) -> None:
    row: dict[str, float] = {"step": step, "wall_s": round(wall_s), "cpu_s": round(cpu_s)}
    for name in sorted({name for entry in sums for name in entry}):
        row[name] = round(float(np.mean([entry[name] for entry in sums if name in entry])), 4)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def train(options: TrainOptions) -> None:
    """Train to the end in `N_RANKS` processes, going on from the saved state when there is one."""
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.multiprocessing.spawn(  # type: ignore[attr-defined,no-untyped-call]
        run_rank, args=(options, Exchange(N_RANKS)), nprocs=N_RANKS, join=True
    )
    tqdm.write(f"{options.task}: {options.n_steps} steps done; state in {options.state_path}", file=sys.stderr)
