"""Draws the training curve.

Flows in: the JSONL log of `mini.training.train`. Flows out: an SVG with the losses over the steps.
"""

import json
from pathlib import Path

LINES = {
    "ce": "decoder cross-entropy",
    "ctc": "CTC per token",
    "word": "word of the frame",
    "letter": "letter of the frame",
    "clock": "time of the audio position",
}


def draw_curve(log_path: Path, svg_path: Path) -> None:
    """Write the curves of a training log as SVG."""
    from matplotlib.figure import Figure

    lines = [json.loads(line) for line in log_path.read_text(encoding="utf-8").splitlines()]
    rows = list({row["step"]: row for row in lines}.values())  # steps done again after an interruption count once
    figure = Figure(figsize=(7, 4))
    axes = figure.add_subplot()
    for key, label in LINES.items():
        chosen = sorted((row["step"], row[key]) for row in rows if key in row)
        if chosen:
            axes.plot([step for step, _ in chosen], [loss for _, loss in chosen], label=label)
    axes.set_xlabel("step")
    axes.set_ylabel("nats")
    axes.set_yscale("log")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.tight_layout()
    figure.savefig(svg_path, metadata={"Date": None})
