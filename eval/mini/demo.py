"""What `make demo` runs: export the miniature checkpoint, transcribe the sample clips, print both texts side by side.

Every step is a command a user could type; it is printed before it runs.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
CHECKPOINT = Path("tests/data/mini-asr")
CLIPS = Path("tests/data/mini-clips")
BUNDLE = Path("build/demo/bundle")


def command(*arguments: str) -> str:
    """Print a command as the user would type it, run it, and return what it wrote to stdout."""
    sys.stderr.write(f"$ {shlex.join(['qwen3-asr-onnx', *arguments])}\n")
    done = subprocess.run(
        [sys.executable, "-m", "qwen3_asr_onnx", *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True
    )
    return done.stdout


def main() -> int:
    """Run the demo and return 0 when every command worked."""
    started = time.monotonic()
    rows = [json.loads(line) for line in (ROOT / CLIPS / "manifest.jsonl").read_text(encoding="utf-8").splitlines()]
    command("export", str(CHECKPOINT), str(BUNDLE), "--overwrite")
    command("info", str(BUNDLE), "--verify")
    by_context: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        by_context[row["context"]].append(row)
    n_exact = 0
    for context, group in by_context.items():
        options = ["--context", context] if context else []
        paths = [str(CLIPS / row["file"]) for row in group]
        results = command("transcribe", str(BUNDLE), *paths, "--format", "json", "--quiet", *options).splitlines()
        for row, line in zip(group, results, strict=True):
            text = json.loads(line)["text"]
            n_exact += text == row["text"]
            sys.stdout.write(f"\n{row['file']} ({row['duration_s']:.1f} s)\n")
            sys.stdout.write(f"  heard      {text or '(no speech)'}\n  reference  {row['text'] or '(no speech)'}\n")
    seconds = time.monotonic() - started
    sys.stdout.write(f"\n{n_exact} of {len(rows)} clips exactly right, {seconds:.0f} s, the bundle is in {BUNDLE}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
