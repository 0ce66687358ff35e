"""What rounding the weights costs: the miniature as a yardstick for quantization.

Flows in: a native transcriber and test items. Flows out: error rates of rounded copies, each with its paired difference
from the unrounded model on the same clips, and the loss of the reference texts, which resolves smaller damage.
"""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from mini.language.vocabulary import Vocabulary
from mini.measuring.score import difference, ratio_interval
from mini.measuring.testset import TestItem, run_set
from mini.speech.corpus import forced_prefix
from mini.training.batches import n_audio_tokens, pad_mels
from mini.training.network import decode_layers, encode

ROUNDINGS: dict[str, tuple[int, int]] = {
    "int8 group 64": (8, 64),
    "int6 group 64": (6, 64),
    "int5 group 64": (5, 64),
    "int4 group 32": (4, 32),
    "int4 group 64": (4, 64),
    "int4 group 128": (4, 128),
    "int4 per row": (4, 0),
    "int3 group 64": (3, 64),
}


def round_linears(model: nn.Module, bits: int, group: int) -> Any:
    """Return a copy whose linear weights are rounded to the nearest of 2**bits levels, one scale a group of inputs.

    The tied embedding table and the convolutions stay as they are; `group` 0 means one scale a row.
    """
    rounded = copy.deepcopy(model)
    for name, module in rounded.named_modules():
        if isinstance(module, nn.Linear) and not name.endswith("lm_head"):
            weight = module.weight.data
            grouped = weight.reshape(weight.shape[0], -1, group) if group else weight.unsqueeze(1)
            scale = grouped.abs().amax(-1, keepdim=True).clamp_min(1e-9) / (2 ** (bits - 1) - 1)
            module.weight.data = (torch.round(grouped / scale) * scale).reshape(weight.shape)
    return rounded


def reference_losses(model: Any, vocabulary: Vocabulary, items: Sequence[TestItem]) -> list[tuple[float, int]]:
    """Return every clip's cross-entropy of the reference text in nats, right language forced, and its tokens."""
    losses: list[tuple[float, int]] = []
    for item in items:
        mel, utterance = item.request.mel, item.utterance
        prompt = vocabulary.prompt(n_audio_tokens(len(mel)), item.request.context)
        prompt += vocabulary.encode(forced_prefix(utterance.language))
        answer = [*vocabulary.encode(utterance.text), vocabulary.ids["<|im_end|>"]]
        with torch.inference_mode():
            audio = encode(model.model.audio_tower, pad_mels([mel]), [len(mel)])
            ids = torch.tensor([prompt + answer])
            states = decode_layers(model.model, ids, audio, vocabulary.ids["<|audio_pad|>"])[-1]
            logits = model.lm_head(states[0, len(prompt) - 1 : -1])
            nats = float(F.cross_entropy(logits, torch.tensor(answer), reduction="sum"))
        losses.append((nats, len(answer)))
    return losses


def loss_difference(losses: Sequence[tuple[float, int]], baseline: Sequence[tuple[float, int]]) -> tuple[float, ...]:
    """Return how much higher the first losses of the same clips are, in nats a token, with the ends of its interval."""
    extra = [a - b for (a, _), (b, _) in zip(losses, baseline, strict=True)]
    return ratio_interval(extra, [n for _, n in baseline])


def measure_roundings(
    model: nn.Module, vocabulary: Vocabulary, items: Sequence[TestItem], say: Callable[[str], None]
) -> dict[str, str]:
    """Return the error rate and the loss of the model and of its rounded copies on the same clips."""
    plain, plain_losses = run_set(model, vocabulary, items), reference_losses(model, vocabulary, items)
    loss = ratio_interval(*zip(*plain_losses, strict=True))[0]
    report = {"bfloat16": f"{plain.score()}, loss {loss:.4f}"}
    references = [item.utterance.text for item in items]
    for label, (bits, group) in ROUNDINGS.items():
        rounded = round_linears(model, bits, group)
        result = run_set(rounded, vocabulary, items)
        against = difference(references, result.texts, plain.texts)
        more = "{:+.4f} [{:+.4f}, {:+.4f}]".format(
            *loss_difference(reference_losses(rounded, vocabulary, items), plain_losses)
        )
        report[label] = f"{result.score()}, {against}, loss {more}"
        say(f"{label}: {report[label]}")
    return report
