"""Builds the training corpus: renders the planned clips in worker processes and writes features and word times.

Flows in: a seed and a number of clips. Flows out, under the working folder: ``shard_NN.npy`` ((n_frames, 128) float16,
all clips of the shard end to end), ``shard_NN.jsonl`` (one row a clip) and ``manifest.json`` with the digest of all
rows. A shard that is already complete is not rendered again, so an interrupted build goes on where it stopped.
"""

import hashlib
import json
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from mini.speech.corpus import plan, plan_digest, render
from mini.speech.features import log_mel

N_SHARDS = 32


@dataclass(frozen=True, slots=True)
class ShardJob:
    """One worker's task: clips `index`, `index + N_SHARDS`, ... of the training set."""

    folder: Path
    seed: int
    index: int
    n_clips: int


def render_shard(job: ShardJob) -> str:
    """Render one shard and return the SHA-256 of its rows."""
    features_path = job.folder / f"shard_{job.index:02d}.npy"
    rows_path = features_path.with_suffix(".jsonl")
    if not (rows_path.exists() and features_path.exists()):
        rows: list[str] = []
        mels, offset = [], 0
        for index in range(job.index, job.n_clips, N_SHARDS):
            utterance = plan("train", job.seed, index)
            clip = render(utterance)
            mel = log_mel(clip.waveform).astype(np.float16)
            words = [[w.text, w.spoken, round(w.start_s, 3), round(w.end_s, 3), w.exact] for w in clip.words]
            row: dict[str, Any] = utterance.to_json() | {
                "offset": offset, "n_frames": len(mel), "lead_s": round(clip.lead_s, 3), "words": words,
            }  # fmt: skip
            rows.append(json.dumps(row, ensure_ascii=False))
            mels.append(mel)
            offset += len(mel)
        temporary = features_path.with_suffix(f".tmp{os.getpid()}.npy")
        np.save(temporary, np.concatenate(mels))
        temporary.replace(features_path)
        partial = rows_path.with_suffix(".part")
        partial.write_text("\n".join(rows) + "\n", encoding="utf-8")
        partial.replace(rows_path)
    return hashlib.sha256(rows_path.read_bytes()).hexdigest()


def build(folder: Path, seed: int, n_clips: int, n_workers: int) -> dict[str, Any]:
    """Render what is missing of the corpus and return its manifest; equal arguments give an equal manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    jobs = [ShardJob(folder, seed, index, n_clips) for index in range(N_SHARDS)]
    os.environ["OMP_NUM_THREADS"] = "1"  # of the workers' BLAS: a second thread each doubled the CPU time of the corpus
    spawn = multiprocessing.get_context("spawn")  # an executor, not a Pool: it reports a synthesizer that crashed
    with ProcessPoolExecutor(n_workers, mp_context=spawn) as pool:
        digests = list(tqdm(pool.map(render_shard, jobs), total=len(jobs), desc="corpus", unit="shard"))
    n_frames = sum(len(np.load(folder / f"shard_{j.index:02d}.npy", mmap_mode="r")) for j in jobs)
    manifest = {
        "seed": seed,
        "clips": n_clips,
        "hours": round(n_frames / 360000, 3),
        "plan_sha256": plan_digest(seed, range(n_clips)),
        "shards": digests,
        "sha256": hashlib.sha256("".join(digests).encode()).hexdigest(),
    }
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    return manifest


def read_rows(folder: Path) -> list[dict[str, Any]]:
    """Return the rows of all shards; each gets the key "shard", the name of its feature file."""
    rows = []
    for path in sorted(folder.glob("shard_*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            row["shard"] = path.with_suffix(".npy").name
            rows.append(row)
    return rows
