"""The programs that load the layouts, as their contracts have them: greedy, in numpy, with nothing of ours in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

__all__ = ["MergedHost", "SherpaHost", "SplitHost", "session"]

Array = npt.NDArray[Any]
LOWEST = float(np.finfo(np.float32).min)


def session(path: Path) -> ort.InferenceSession:
    """Open a graph; what it warns of is an error of its maker."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


@dataclass
class SherpaHost:
    """Keeps caches (1, M, kv_heads, head_dim), full of `filler` at first, and puts into them what is handed out."""

    folder: Path
    capacity: int = 512
    filler: float = 0.0
    logits: list[Array] = field(default_factory=list)

    def __post_init__(self) -> None:
        names = ("conv_frontend", "encoder.int8", "decoder.int8")
        self.front, self.encoder, self.decoder = (session(self.folder / f"{name}.onnx") for name in names)

    def features(self, mel: Array, n_tokens: int) -> Array:
        (rows,) = self.front.run(None, {"input_features": mel.T[None]})
        mask = np.arange(rows.shape[1])[None] < n_tokens
        (features,) = self.encoder.run(None, {"input_features": rows, "feature_attention_mask": mask})
        return np.asarray(features)

    def answer(self, features: Array, prompt: Sequence[int], stops: Sequence[int], limit: int = 200) -> list[int]:
        inputs = self.decoder.get_inputs()[4:]
        caches = {one.name: np.full((1, self.capacity, *one.shape[2:]), self.filler, np.float32) for one in inputs}
        ids, past, written = list(prompt), 0, list[int]()
        while len(written) < limit:
            positions = np.arange(past, past + len(ids))
            feeds = {
                "input_ids": np.array([ids]),
                "audio_features": features,
                "attention_mask": np.ones((1, len(ids)), np.int64),
                "cache_position": positions,
            }
            logits, *deltas = self.decoder.run(None, {**feeds, **caches})
            for cache, delta in zip(caches.values(), deltas, strict=True):
                cache[:, positions] = delta
            self.logits.append(logits)
            past += len(ids)
            ids = [int(logits[0, -1].argmax())]
            if ids[0] in stops:
                break
            written += ids
        return written


@dataclass
class StackedHost:
    """Has one array for all keys, and one for all values; looks embeddings up itself."""

    folder: Path
    hidden: int

    def __post_init__(self) -> None:
        self.table = np.fromfile(self.folder / "embed_tokens.bin", np.float16).reshape(-1, self.hidden)
        self.encoder = session(self.folder / "encoder.int4.onnx")

    def features(self, mel: Array) -> Array:
        return np.asarray(self.encoder.run(None, {"mel": mel[None]})[0])

    def embeds(self, ids: Sequence[int]) -> Array:
        return self.table[list(ids)].astype(np.float32)[None]


class MergedHost(StackedHost):
    """Runs a prompt in two pieces, as Home Assistant does with its list of names."""

    def answer(self, features: Array, prompt: Sequence[int], audio: int, stops: Sequence[int]) -> list[int]:
        decoder = session(self.folder / "decoder_merged.int4.onnx")
        layers, _, heads, _, width = decoder.get_outputs()[1].shape
        past = [np.zeros((layers, 1, heads, 0, width), np.float32)] * 2
        embeds = self.embeds(prompt)
        first = list(prompt).index(audio)
        embeds[0, first : first + features.shape[1]] = features[0]
        written: list[int] = []
        pieces = [embeds[:, :4], embeds[:, 4:]]
        while len(written) < 200:
            piece = pieces.pop(0)
            length, before = piece.shape[1], past[0].shape[3]
            mask = np.triu(np.full((length, before + length), LOWEST, np.float32), k=before + 1)
            feeds = {
                "input_embeds": piece,
                "position_ids": np.arange(before, before + length)[None],
                "attention_mask": mask[None, None],
                "past_keys": past[0],
                "past_values": past[1],
            }
            logits, *past = decoder.run(["logits", "present_keys", "present_values"], feeds)
            if pieces:
                continue
            token = int(logits[0, -1].argmax())
            if token in stops:
                break
            written.append(token)
            pieces.append(self.embeds([token]))
        return written


class SplitHost(StackedHost):
    """Leaves the prompt's embeddings to the first graph."""

    def answer(self, features: Array, prompt: Sequence[int], audio: int, stops: Sequence[int]) -> list[int]:
        init, step = (session(self.folder / f"decoder_{name}.int4.onnx") for name in ("init", "step"))
        feeds: dict[str, Array] = {
            "input_ids": np.array([prompt]),
            "position_ids": np.arange(len(prompt))[None],
            "audio_features": features,
            "audio_offset": np.array([list(prompt).index(audio)]),
        }
        logits, keys, values = init.run(["logits", "present_keys", "present_values"], feeds)
        written: list[int] = []
        while len(written) < 200:
            token = int(logits[0, -1].argmax())
            if token in stops:
                break
            written.append(token)
            position = np.array([[keys.shape[3]]])
            feeds = {"input_embeds": self.embeds([token]), "position_ids": position}
            logits, keys, values = step.run(
                ["logits", "present_keys", "present_values"], {**feeds, "past_keys": keys, "past_values": values}
            )
        return written
