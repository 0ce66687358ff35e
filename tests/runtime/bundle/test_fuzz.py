"""A manifest with one thing wrong in it, sixty times: an error of ours, or the right answer."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.support.clips import synthetic_clip
from tests.support.manifests import edit_manifest

from qwen3_asr_onnx import TranscribeOptions, Transcriber
from qwen3_asr_onnx.bundle.manifest import MANIFEST_FILE
from qwen3_asr_onnx.commands import cli
from qwen3_asr_onnx.errors import Qwen3AsrError

CASES, SEED = 60, 17
OPTIONS = TranscribeOptions(max_new_tokens=12)

FREE = (("tokens", "eos"), ("prompt", "template"))
"""What nothing but the digest can tell: which of the special tokens end an answer, and how the question is put."""

VALUES: list[Any] = [
    *(None, True, False, 0, 1, -1, 2, 3, 2**31, 2**63, 10**30, 0.5, 1e300),
    *("", "a", "1", "../x", "/etc/passwd", "\u0000", "\ud800", "x" * 5000),
    *([], {}, [[]], [1], ["a"], {"a": 1}, [None]),
]


def places(node: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path to everything inside a JSON document."""
    keys = node if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
    for key in keys:
        yield (*at, key)
        yield from places(node[key], (*at, key))


def owner_of(body: Any, at: tuple[Any, ...]) -> Any:
    for key in at[:-1]:
        body = body[key]
    return body


def spoil(body: dict[str, Any], rng: random.Random) -> str:
    """Change one thing; return what."""
    at = rng.choice([place for place in places(body) if place[:2] not in FREE])
    owner, how = owner_of(body, at), rng.randrange(4)
    value = owner[at[-1]]
    if how == 0:
        owner[at[-1]] = rng.choice(VALUES)
    elif how == 1:
        del owner[at[-1]]
        return f"without {at}"
    elif how == 2:
        other = rng.choice(list(places(body)))
        owner[at[-1]] = copy.deepcopy(owner_of(body, other)[other[-1]])
    else:
        numbers = [
            place for place in places(body) if place[:2] not in FREE and type(owner_of(body, place)[place[-1]]) is int
        ]
        at = rng.choice(numbers)
        owner, value = owner_of(body, at), owner_of(body, at)[at[-1]]
        owner[at[-1]] = rng.choice([value + 1, value - 1, value * 2, value // 2, -value, str(value), float(value)])
    return f"{at} = {owner[at[-1]]!r:.60}"


def spoil_into(done: list[str], rng: random.Random, body: dict[str, Any]) -> None:
    done.append(spoil(body, rng))


@pytest.mark.parametrize("signed", [True, False], ids=["signed", "unsigned"])
def test_one_wrong_thing_in_a_manifest(
    bundle_copy: Path, signed: bool, capsys: pytest.CaptureFixture[str], asr: Transcriber
) -> None:
    """A bundle whose exporter was wrong, and one made before there were digests."""
    clip, sound = synthetic_clip(1.0), (bundle_copy / MANIFEST_FILE).read_bytes()
    right = asr.transcribe(clip, OPTIONS).token_ids
    rng = random.Random(SEED + signed)
    refused = 0
    for _ in range(CASES // 2):
        (bundle_copy / MANIFEST_FILE).write_bytes(sound)
        done: list[str] = []
        edit_manifest(bundle_copy, partial(spoil_into, done, rng), signed=signed)
        try:
            with Transcriber(bundle_copy, threads=1) as one:
                assert one.transcribe(clip, OPTIONS).token_ids == right, done
        except Qwen3AsrError:
            refused += 1
        assert cli.main(["info", str(bundle_copy), "--json"]) in (0, 1), done
        json.loads(capsys.readouterr().out)
    assert refused > CASES // 4
