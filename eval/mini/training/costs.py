"""What a stage of `make mini` costs, workers included, whatever else the machine had to do.

Flows in: the name of a stage. Flows out: a row in a JSONL log, which interrupted and resumed runs append to.
"""

import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TICK_S, LONGEST_TICK_S = 1.0, 3.0  # a longer gap between two ticks means that the process was stopped


def cpu_seconds() -> float:
    """Return the CPU seconds of this process and of its finished children."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


class RunningClock(threading.Thread):
    """Counts the seconds of wall clock during which the process was not stopped."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.running_s = 0.0
        self._done = threading.Event()

    def run(self) -> None:
        """Count until `stop`."""
        last = time.monotonic()
        while not self._done.wait(TICK_S):
            now = time.monotonic()
            self.running_s += min(now - last, LONGEST_TICK_S)
            last = now

    def stop(self) -> None:
        """End the count."""
        self._done.set()
        self.join()


@contextmanager
def measure(stage: str, log_path: Path) -> Iterator[None]:
    """Append a row with the costs of the enclosed work to the log, also when the work fails."""
    log_path.parent.mkdir(parents=True, exist_ok=True)
    began, cpu_s, clock = time.monotonic(), cpu_seconds(), RunningClock()
    clock.start()
    try:
        yield
    finally:
        clock.stop()
        row = {
            "stage": stage, "cpu_s": round(cpu_seconds() - cpu_s, 1), "running_s": round(clock.running_s, 1),
            "wall_s": round(time.monotonic() - began, 1),
        }  # fmt: skip
        with log_path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


def total_costs(log_path: Path) -> dict[str, str]:
    """Return the summed costs of every stage in the log, and of all."""
    sums: dict[str, list[float]] = {}
    for line in log_path.read_text(encoding="utf-8").splitlines() if log_path.exists() else []:
        row = json.loads(line)
        for label in (row["stage"], "all"):
            old = sums.setdefault(label, [0.0, 0.0, 0.0])
            sums[label] = [a + row[key] for a, key in zip(old, ("cpu_s", "running_s", "wall_s"), strict=True)]
    return {
        label: f"{cpu:.0f} s of CPU time, {running:.0f} s of wall clock without pauses, {wall:.0f} s with them"
        for label, (cpu, running, wall) in sums.items()
    }
