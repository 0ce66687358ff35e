"""Runs and measures the miniature aligner with the native transformers class.

Flows in: a native aligner, mels and words. Flows out: word times in milliseconds after the official repair, and the
error of the word boundaries.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from mini.language.sentences import LANGUAGES
from mini.language.vocabulary import Vocabulary
from mini.measuring.score import ratio_interval
from mini.speech.corpus import Clip, examples
from mini.speech.features import Mel, log_mel
from mini.training.aligner_task import align_ids, clean_unit
from mini.training.batches import n_audio_tokens, pad_mels
from mini.training.model import SEGMENT_MS


def repair(values: Sequence[int]) -> list[int]:
    """Return slot times made non-decreasing: members of the longest non-decreasing run stay, others move to it.

    One or two strays take the nearer neighbour, three or more are spread evenly between their neighbours.
    """
    best, previous = [1] * len(values), [-1] * len(values)
    for i, value in enumerate(values):
        for j in range(i):
            if values[j] <= value and best[j] + 1 > best[i]:
                best[i], previous[i] = best[j] + 1, j
    kept = set()
    index = best.index(max(best)) if values else -1
    while index >= 0:
        kept.add(index)
        index = previous[index]
    fixed, start = list(values), 0
    while start < len(values):
        if start in kept:
            start += 1
            continue
        stop = next((k for k in range(start, len(values)) if k in kept), len(values))
        left = values[start - 1] if start else None
        right = values[stop] if stop < len(values) else None
        _fill(fixed, start, stop, left, right)
        start = stop
    return fixed


def _fill(fixed: list[int], start: int, stop: int, left: int | None, right: int | None) -> None:
    low = left if left is not None else right
    high = right if right is not None else left
    assert low is not None
    assert high is not None
    size = stop - start
    for k in range(start, stop):
        if size <= 2:
            fixed[k] = low if k - start + 1 <= stop - k else high
        else:
            fixed[k] = int(low + (high - low) / (size + 1) * (k - start + 1))


def align(model: Any, vocabulary: Vocabulary, mel: Mel, units: list[str]) -> list[int]:
    """Return start and end of every unit in milliseconds, [start, end, start, end, ...].

    Args:
        model: native `Qwen3ASRForTokenClassification` in eval mode.
        vocabulary: its tokenizer.
        mel: (n_frames, 128) features of the clip.
        units: words cleaned by `clean_unit`.
    """
    ids, slots = align_ids(vocabulary, n_audio_tokens(len(mel)), units)
    features = pad_mels([mel])
    mask = torch.zeros(1, features.shape[2], dtype=torch.long)
    mask[:, : len(mel)] = 1
    with torch.inference_mode():
        out = model(input_ids=torch.tensor([ids]), input_features=features, input_features_mask=mask)
    classes = out.logits[0, slots].argmax(-1)
    return repair([int(c) * SEGMENT_MS for c in classes])


def boundary_errors_ms(model: Any, vocabulary: Vocabulary, clip: Clip) -> list[float]:
    """Return the absolute error of every word boundary whose true time the synthesizer gave exactly."""
    found = align(model, vocabulary, log_mel(clip.waveform), [clean_unit(word.text) for word in clip.words])
    errors = []
    for word, start_ms, end_ms in zip(clip.words, found[::2], found[1::2], strict=True):
        if word.exact:
            errors += [abs(start_ms - 1000 * word.start_s), abs(end_ms - 1000 * word.end_s)]
    return errors


def evaluate_aligner(model: Any, vocabulary: Vocabulary, count: int, seed: int) -> dict[str, str]:
    """Return mean and median boundary error of `count` clips of each speech set, and by language."""
    report: dict[str, str] = {}
    by_language: dict[str, list[list[float]]] = {language: [] for language in LANGUAGES}
    for set_name in ("seen", "unseen", "long"):
        clips = []
        for utterance, clip in examples(set_name, seed, count if set_name != "long" else count // 3):
            clips.append(boundary_errors_ms(model, vocabulary, clip))
            if set_name != "long":
                by_language[utterance.language].append(clips[-1])
        report[set_name] = describe_errors(clips)
    for language, clips in by_language.items():
        report[f"seen and unseen, {language}"] = describe_errors(clips)
    report["seen and unseen"] = describe_errors([clip for clips in by_language.values() for clip in clips])
    return report


def describe_errors(clips: Sequence[Sequence[float]]) -> str:
    """Return mean (with a bootstrap interval over clips), median, 90 % point and share within 80 ms."""
    errors = np.concatenate([np.asarray(clip) for clip in clips])
    _, low, high = ratio_interval([sum(clip) for clip in clips], [len(clip) for clip in clips])
    return (
        f"mean {errors.mean():.1f} ms [{low:.1f}, {high:.1f}], median {np.median(errors):.1f} ms, "
        f"p90 {np.quantile(errors, 0.9):.0f} ms, within 80 ms {100 * np.mean(errors <= 80):.1f} % "
        f"({len(errors)} boundaries, {len(clips)} clips)"
    )
