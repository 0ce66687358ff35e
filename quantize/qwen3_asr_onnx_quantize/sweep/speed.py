"""A variant -> seconds and megabytes of a process that does nothing else: `python -m ... BUNDLE VARIANT CLIPS.npz`.

Run by the sweep, as a process of its own, so that nothing measured before it is in its memory. Prints one JSON object.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from qwen3_asr_onnx.arrays import Waveform
from qwen3_asr_onnx.errors import BundleError

__all__ = ["probe_speed"]

PASSES = 2
"""Times each clip is transcribed; the first pass warms every buffer and is not counted."""


def probe_speed(
    bundle: Path, variant: str, clips: Sequence[Waveform], max_new_tokens: int, threads: int | None
) -> dict[str, float | None]:
    """Return load, memory and time per stage of a variant, measured in a new process.

    Args:
        bundle: the bundle's directory.
        variant: the variant's name.
        clips: what to transcribe.
        max_new_tokens: most tokens per clip.
        threads: threads per operator; None for all cores.

    Returns:
        load_s; resident_mb after loading and peak_mb at the end, None where the system does not tell; encoder_ms and
        prefill_ms, medians over the clips; step_ms per token.

    Raises:
        BundleError: the process failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "clips.npz"
        np.savez(file, *clips)
        command = [sys.executable, "-m", __name__, str(bundle), variant, str(file), str(max_new_tokens), str(threads)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own module
    if done.returncode:
        said = done.stderr.strip().splitlines()
        reason = said[-1] if said else f"it ended with {done.returncode}"
        raise BundleError(f"{bundle}: variant {variant!r} cannot be measured: {reason}")
    measured: dict[str, float | None] = json.loads(done.stdout)
    return measured


def _main(bundle: str, variant: str, file: str, max_new_tokens: str, threads: str) -> None:
    from qwen3_asr_onnx import TranscribeOptions, Transcriber

    with np.load(file) as saved:
        clips = [saved[name] for name in saved.files]
    started = time.perf_counter()
    asr = Transcriber(bundle, variant, threads=None if threads == "None" else int(threads))
    load_s = time.perf_counter() - started
    resident_mb = _memory_mb("VmRSS:")
    options = TranscribeOptions(max_new_tokens=int(max_new_tokens))
    for _ in range(PASSES):
        timings = [(found.timings, len(found.token_ids)) for found in (asr.transcribe(clip, options) for clip in clips)]
    measured = {
        "load_s": load_s,
        "resident_mb": resident_mb,
        "peak_mb": _peak_mb(),
        "encoder_ms": 1e3 * float(np.median([one.encoder_s for one, _ in timings])),
        "prefill_ms": 1e3 * float(np.median([one.prefill_s for one, _ in timings])),
        "step_ms": 1e3 * sum(one.decode_s for one, _ in timings) / max(1, sum(count for _, count in timings)),
    }
    sys.stdout.write(json.dumps(measured))


def _memory_mb(field: str) -> float | None:
    """Return one line of what Linux tells about this process: VmRSS is in memory now, VmHWM the most there ever was."""
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
    except OSError:
        return None
    return next(float(line.split()[1]) / 1e3 for line in status.splitlines() if line.startswith(field))


def _peak_mb() -> float | None:
    """Return the most that was ever in memory; Windows does not tell."""
    peak = _memory_mb("VmHWM:")  # on Linux the value of getrusage is handed down from the parent process
    if peak is not None:
        return peak
    try:
        import resource
    except ImportError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


if __name__ == "__main__":
    _main(*sys.argv[1:])
