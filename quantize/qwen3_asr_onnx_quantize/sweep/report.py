"""Rows of a sweep -> one table in Markdown, and one plot: size against error, speed as colour."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from qwen3_asr_onnx.errors import MissingExtra, OptionsError

__all__ = ["PLOT_FORMATS", "check_plot", "merged", "plot", "table"]

Row: TypeAlias = Mapping[str, Any]

PLOT_FORMATS = (".png", ".svg")

COLUMNS: Sequence[tuple[str, str, str]] = (
    ("variant", "variant", "{}"),
    ("MB", "size_mb", "{:,.1f}"),
    ("quantize s", "quantize_s", "{:.1f}"),
    ("load s", "load_s", "{:.2f}"),
    ("resident MB", "resident_mb", "{:,.0f}"),
    ("peak MB", "peak_mb", "{:,.0f}"),
    ("encoder ms", "encoder_ms", "{:.0f}"),
    ("prefill ms", "prefill_ms", "{:.0f}"),
    ("step ms", "step_ms", "{:.2f}"),
    ("features error", "features_error", "{:.4f}"),
    ("KL mean", "kl_mean", "{:.5f}"),
    ("KL p99", "kl_p99", "{:.4f}"),
    ("same token", "agree", "{:.2%}"),
    ("WER", "wer", "{:.2%}"),
    ("CER", "cer", "{:.2%}"),
    ("WER - fp32, points", "wer_more_than_fp32", "{:+.2f}"),
)
"""Heading, key of the merged row, format; a column that no row has is left out."""


def merged(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return one row per variant with the values of all its measurements, in the order of first appearance."""
    variants: dict[str, dict[str, Any]] = {}
    for row in rows:
        variants.setdefault(row["variant"], {}).update(row)
    return list(variants.values())


def table(rows: Sequence[Row]) -> str:
    """Return the rows of a sweep as a Markdown table; rates with their 95 % interval."""
    variants = merged(rows)
    columns = [column for column in COLUMNS if any(row.get(column[1]) is not None for row in variants)]
    lines = ["| " + " | ".join(heading for heading, _, _ in columns) + " |", "|---" * len(columns) + "|"]
    lines += ["| " + " | ".join(_cell(row.get(key), form) for _, key, form in columns) + " |" for row in variants]
    return "\n".join(lines) + "\n"


def check_plot(path: Path) -> None:
    """Raise where a plot could not be written later: after hours is late.

    Raises:
        OptionsError: the file's name does not end in .png or .svg, or its folder does not exist.
        MissingExtra: matplotlib is not installed.
    """
    if path.suffix not in PLOT_FORMATS:
        raise OptionsError(f"{path}: a plot is written as {' or '.join(PLOT_FORMATS)}")
    if not path.parent.is_dir():
        raise OptionsError(f"{path.parent}: no such folder for the plot")
    if importlib.util.find_spec("matplotlib") is None:
        raise MissingExtra("drawing the plot needs matplotlib: pip install 'qwen3-asr-onnx[sweep]'")


def plot(rows: Sequence[Row], path: Path) -> None:
    """Draw size against error; colour is the time per token, bars are 95 % intervals.

    The error is the word error rate where it was measured, and the divergence from float32 otherwise. Variants without
    a finite error have no point.

    Args:
        rows: rows of a sweep.
        path: the file to write, .png or .svg.

    Raises:
        As `check_plot`.
    """
    check_plot(path)
    import matplotlib as mpl
    from matplotlib.figure import Figure

    variants = [row for row in merged(rows) if row.get("size_mb") is not None]
    counted = all(_known(row.get("wer")) for row in variants)
    variants = [row for row in variants if counted or row.get("kl_mean") is not None]
    with mpl.rc_context({"svg.hashsalt": "sweep", "svg.fonttype": "none", "font.size": 9}):
        figure = Figure(figsize=(8, 5), layout="constrained")
        axes = figure.add_subplot()
        sizes = [row["size_mb"] for row in variants]
        errors = [100 * row["wer"]["value"] if counted else row["kl_mean"] for row in variants]
        if counted:
            low = [error - 100 * row["wer"]["low"] for error, row in zip(errors, variants, strict=True)]
            high = [100 * row["wer"]["high"] - error for error, row in zip(errors, variants, strict=True)]
            axes.errorbar(sizes, errors, yerr=(low, high), fmt="none", ecolor="0.8", zorder=1)
        else:
            axes.set_yscale("symlog", linthresh=1e-5)
        timed = all(row.get("step_ms") is not None for row in variants)
        dots = axes.scatter(sizes, errors, c=[row["step_ms"] for row in variants] if timed else None, s=60, zorder=2)
        for row, size, error in zip(variants, sizes, errors, strict=True):
            axes.annotate(row["variant"], (size, error), textcoords="offset points", xytext=(7, 4))
        axes.set_xlabel("size, MB")
        axes.set_ylabel("word error rate, % (bars: 95 % interval)" if counted else "divergence from float32, nats")
        axes.margins(x=0.12)
        axes.grid(visible=True, color="0.92")
        axes.set_axisbelow(True)
        if timed:
            figure.colorbar(dots, label="step, ms per token")
        metadata = {"Date": None} if path.suffix == ".svg" else {"Software": None}
        figure.savefig(path, dpi=150, metadata=metadata)


def _known(value: object) -> bool:
    """Return whether a measurement, or all of a rate with its interval, came out as a number."""
    return all(_known(part) for part in value.values()) if isinstance(value, Mapping) else value is not None


def _cell(value: object, form: str) -> str:
    if not _known(value):
        return ""
    if isinstance(value, Mapping):
        scale = 1 if form.endswith("%}") else 100
        middle, low, high = (form.format(scale * value[key]) for key in ("value", "low", "high"))
        return f"{middle} [{low}, {high}]"
    return form.format(value)
