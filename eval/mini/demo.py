"""What `make demo` runs: export and quantize the miniature checkpoint, print what it hears beside the reference.

Every step is a command a user could type; it is printed before it runs.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
CHECKPOINT = Path("tests/data/mini-asr")
CLIPS = Path("tests/data/mini-clips")
BUNDLE = Path("build/demo/bundle")
VARIANTS = ("fp32", "int4")
NO_SPEECH = "(no speech)"


def command(*arguments: str) -> str:
    """Print a command as the user would type it, run it, and return what it wrote to stdout."""
    sys.stderr.write(f"$ {shlex.join(['qwen3-asr-onnx', *arguments])}\n")
    done = subprocess.run(
        [sys.executable, "-m", "qwen3_asr_onnx", *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True
    )
    return done.stdout


def transcribe(paths: Sequence[str], variant: str, options: Sequence[str]) -> list[str]:
    """Return the texts of some clips as one variant hears them."""
    arguments = ["--variant", variant, "--format", "json", "--quiet", *options]
    return [
        json.loads(line)["text"] for line in command("transcribe", "-m", str(BUNDLE), *paths, *arguments).splitlines()
    ]


def main() -> int:
    """Run the demo and return 0 when every command worked."""
    started = time.monotonic()
    rows = [json.loads(line) for line in (ROOT / CLIPS / "manifest.jsonl").read_text(encoding="utf-8").splitlines()]
    command("export", str(CHECKPOINT), str(BUNDLE), "--overwrite")
    command("info", str(BUNDLE), "--verify")
    by_context: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        by_context[row["context"]].append(row)
    command("quantize", str(BUNDLE), "--recipe", "int4")
    n_exact: dict[str, int] = dict.fromkeys(VARIANTS, 0)
    for context, group in by_context.items():
        options = ["--max-segment-seconds", "10", *(["--context", context] if context else [])]
        paths = [str(CLIPS / row["file"]) for row in group]
        texts = {variant: transcribe(paths, variant, options) for variant in VARIANTS}
        for i, row in enumerate(group):
            sys.stdout.write(f"\n{row['file']} ({row['duration_s']:.1f} s)\n")
            for variant in VARIANTS:
                text = texts[variant][i]
                n_exact[variant] += text == row["text"]
                sys.stdout.write(f"  {variant:<10} {text or NO_SPEECH}\n")
            sys.stdout.write(f"  reference  {row['text'] or NO_SPEECH}\n")
    exact = ", ".join(f"{variant} {count}" for variant, count in n_exact.items())
    seconds = time.monotonic() - started
    sys.stdout.write(f"\nexactly right, of {len(rows)} clips: {exact}. {seconds:.0f} s; the bundle is in {BUNDLE}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
