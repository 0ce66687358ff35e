"""Make `tests/data/tiny_bundle`: real graphs, two layers, random weights, small enough to live beside the tests.

    python -m tests.data.make_tiny_bundle

Also writes `tiny_bundle.json`: the token ids transformers generates from the same checkpoint for a few clips, so that
the runtime tests, which have no torch, still compare with upstream.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from tests.parity.oracle import reference
from tests.support.checkpoints import CheckpointOptions, Shape, make_checkpoint
from tests.support.clips import synthetic_clip

from qwen3_asr_onnx_export.pipeline import export_checkpoint

HERE = Path(__file__).parent
# Vocabulary without room to spare: 300 BPE tokens, 7 added ones. With this seed some clips stop early and some do not.
SHAPE = Shape(
    "tiny", 1, 2, 32, 48, 2, 1, 16, 2, 32, 2, 48, 4, 312, 300, full_added_tokens=False, max_positions=4096, eos_gain=1.9
)
CLIPS_S = (0.3, 1.0, 2.5, 8.01, 11.0)
MAX_NEW_TOKENS = 24


def main() -> None:
    """Replace the bundle and its expected ids."""
    with tempfile.TemporaryDirectory() as folder:
        original, native = Path(folder) / "tiny", Path(folder) / "native"
        make_checkpoint(original, SHAPE, CheckpointOptions(layout="original"))
        make_checkpoint(native, SHAPE, CheckpointOptions(layout="hf"))
        export_checkpoint(original, HERE / "tiny_bundle", overwrite=True)
        expected = [reference(native, synthetic_clip(seconds), max_new_tokens=MAX_NEW_TOKENS) for seconds in CLIPS_S]
    rows = [
        {"seconds": seconds, "token_ids": list(one.token_ids), "stopped": one.stopped}
        for seconds, one in zip(CLIPS_S, expected, strict=True)
    ]
    body = {"max_new_tokens": MAX_NEW_TOKENS, "clips": rows}
    (HERE / "tiny_bundle.json").write_text(json.dumps(body, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
