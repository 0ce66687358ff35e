"""An embedded prompt and its slots -> the time class of every slot and its probability, in one pass of the decoder.

Nothing is generated, so nothing has to be remembered: all layers work in one pair of key and value arrays, one after
the other. Keys and values of their own would take 224 KiB per position, 300 MB for a minute of speech.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from qwen3_asr_onnx.bundle.manifest import DecoderDims, TimestampHead
from qwen3_asr_onnx.bundle.names import EMBEDS, LOGITS, POSITIONS, SEQLENS, TOTAL, cache_names, past_name, present_name
from qwen3_asr_onnx.model.choosing import refuse_nan
from qwen3_asr_onnx.model.kv_cache import KvCache
from qwen3_asr_onnx.model.session import Session
from qwen3_asr_onnx.results import WordFlag

from .times import Span, repair_order

__all__ = ["SlotAnswers", "SlotDecoder"]

ROWS_AT_ONCE = 512
"""Slots whose probabilities are computed together: 5000 classes in float64 are 20 MB."""


@dataclass(frozen=True, slots=True, eq=False)
class SlotAnswers:
    """What the model says at the slots of one prompt, start and end of every word in turn.

    Attributes:
        classes: (2 n_words,) int64, the most likely time class of each slot.
        probabilities: (2 n_words,) float64, probability of that class and its two neighbours.
    """

    classes: npt.NDArray[np.int64]
    probabilities: npt.NDArray[np.float64]

    def spans(self, segment_ms: int, count: int | None = None, offset_ms: int = 0) -> tuple[list[Span], list[float]]:
        """Return when the first `count` words (None: all) are spoken, in order, and their probabilities."""
        slots = slice(None if count is None else 2 * count)
        raw = (self.classes[slots] * segment_ms).tolist()
        repaired = repair_order(raw)
        moved = [before != after for before, after in zip(raw, repaired, strict=True)]
        flags: list[set[WordFlag]] = [
            {"out_of_order"} if any(moved[i : i + 2]) else set() for i in range(0, len(raw), 2)
        ]
        spans = [
            Span(offset_ms + start, offset_ms + end, flagged)
            for start, end, flagged in zip(repaired[::2], repaired[1::2], flags, strict=True)
        ]
        pairs = self.probabilities[slots].reshape(-1, 2)
        return spans, np.sqrt(pairs.prod(axis=1)).tolist()


class SlotDecoder:
    """Runs the prefill graph of an aligner's bundle. Holds no state between calls: many threads may share one."""

    def __init__(self, session: Session, dims: DecoderDims, head: TimestampHead) -> None:
        self._session = session
        self._dims = dims
        self._head = head

    def answer(self, embedded: npt.NDArray[np.float32], slots: npt.NDArray[np.int64]) -> SlotAnswers:
        """Return the answers at some positions of a prompt.

        Args:
            embedded: (n_tokens, hidden) float32.
            slots: (n_slots,) int64 indices of the positions asked for, at least one.

        Raises:
            BundleError: the model answers with what is no number, because its weights are damaged.
        """
        logits = self.logits(embedded, slots)
        refuse_nan(logits.max(axis=-1), "logits", self._session.path)
        return _read(logits)

    def logits(self, embedded: npt.NDArray[np.float32], slots: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """Return the logits (n_slots, n_classes) at some positions; arguments as `answer`."""
        total = len(embedded)
        keys, values = KvCache(replace(self._dims, layers=1), 1, total).buffers
        shared = {"key": keys, "value": values}
        caches = [
            {name: shared["key" if "key" in name else "value"] for name in cache_names(of, self._dims.layers)}
            for of in (past_name, present_name)
        ]
        logits = np.empty((1, len(slots), self._head.classes), dtype=np.float32)
        inputs: dict[str, npt.NDArray[Any]] = {
            EMBEDS: np.ascontiguousarray(embedded[None]),
            SEQLENS: np.array([total - 1], dtype=np.int32),
            TOTAL: np.array(total, dtype=np.int32),
            POSITIONS: np.ascontiguousarray(slots[None]),
        }
        self._session.bind({**inputs, **caches[0]}, {LOGITS: logits, **caches[1]}).run()
        rows: npt.NDArray[np.float32] = logits[0]
        return rows


def _read(logits: npt.NDArray[np.float32]) -> SlotAnswers:
    """Return the most likely class of every row (n_slots, n_classes), and the probability of it and its neighbours."""
    classes = logits.argmax(axis=-1)
    probabilities = np.empty(len(logits))
    for start in range(0, len(logits), ROWS_AT_ONCE):
        rows = logits[start : start + ROWS_AT_ONCE].astype(np.float64)
        best = classes[start : start + ROWS_AT_ONCE]
        weights = np.exp(rows - rows.max(axis=-1, keepdims=True))
        totals = weights.sum(axis=-1)
        weights = np.pad(weights, ((0, 0), (1, 1)))  # the first and the last class have one neighbour
        near = np.take_along_axis(weights, best[:, None] + np.arange(3), axis=1).sum(axis=1)
        probabilities[start : start + ROWS_AT_ONCE] = near / totals
    return SlotAnswers(classes, probabilities)
