"""Figures -> SVG that stands in the page: error against size with intervals, speed against length.

Colours are the page's CSS variables --s0, --s1, ..., so that plots follow its light and dark scheme.
"""

from __future__ import annotations

import html
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from qwen3_asr_onnx_eval.results.rows import ResultRow
from qwen3_asr_onnx_eval.scores.intervals import Interval
from qwen3_asr_onnx_eval.scores.summary import Summary

__all__ = ["N_COLOURS", "Scale", "error_against_size", "line_plot", "speed_against_length", "whisker"]

N_COLOURS = 8
WIDTH, HEIGHT = 560, 340
LEFT, RIGHT, TOP, BOTTOM = 58, 18, 16, 46
MAX_POINTS = 3000
LENGTH_BINS = 7
LABEL_ROOM = 70
CHARACTER_WIDTH, LINE_HEIGHT = 7.2, 13
LABEL_SHIFTS = (0, -14, 14, -28, 28, -42, 42)
MAX_DOTS = 30


@dataclass(frozen=True, slots=True)
class Scale:
    """Maps values onto pixels, evenly or by their logarithm.

    Attributes:
        low: value at `start`.
        high: value at `end`.
        start: pixel.
        end: pixel.
        logarithmic: whether equal ratios, not differences, get equal room.
    """

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def __call__(self, value: float) -> float:
        """Return the pixel of a value."""
        low, high, value = (math.log(x) if self.logarithmic else x for x in (self.low, self.high, value))
        return self.start + (value - low) / (high - low) * (self.end - self.start)

    def ticks(self) -> list[float]:
        """Return round values: about five, or 1, 2, 5 of each power of ten."""
        if self.logarithmic:
            powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            found = [m * 10.0**p for p in powers for m in (1, 2, 5)]
            inside = [value for value in found if self.low * 0.999 <= value <= self.high * 1.001]
            return inside if len(inside) <= 9 else [v for v in inside if f"{v:.0e}"[0] == "1"]
        step = 10.0 ** math.floor(math.log10(self.high - self.low))
        step *= next(m for m in (0.1, 0.2, 0.5, 1, 2) if (self.high - self.low) / (m * step) <= 6)
        first = math.ceil(self.low / step - 1e-9)
        return [n * step for n in range(first, math.floor(self.high / step + 1e-9) + 1)]


def error_against_size(summary: Summary) -> str:
    """Return a plot of error rate, with its interval, against bytes on disk; "" where no system has both."""
    points = [
        (i, one.name, one.size_bytes / 1e6, one.overall.interval)
        for i, one in enumerate(summary.systems)
        if one.size_bytes and one.overall
    ]
    if not points:
        return ""
    sizes = [size for _, _, size, _ in points]
    x = Scale(min(sizes) * 0.7, max(sizes) * 1.6, LEFT, WIDTH - RIGHT, logarithmic=True)
    top = max(interval.high for *_, interval in points) * 100
    y = Scale(0, max(top * 1.08, 1e-3), HEIGHT - BOTTOM, TOP)
    marks = []
    labels = _Labels([(x(size), y(100 * interval.value)) for _, _, size, interval in points])
    for i, name, size, interval in sorted(points, key=lambda point: point[3].value):
        px, py = x(size), y(100 * interval.value)
        marks.append(_upright(px, y(100 * interval.low), y(100 * interval.high), i))
        marks.append(f'<circle cx="{px:.1f}" cy="{py:.1f}" r="5" style="fill:{_colour(i)}"/>')
        marks.append(labels.place(px, py, name, i))
    return _frame("Error rate against size on disk", x, y, "size on disk, MB", "error rate, %", "".join(marks))


def speed_against_length(summary: Summary) -> str:
    """Return a plot of each utterance's RTF against its length, with the median of each length class as a line."""
    series = []
    for i, name in enumerate(summary.results.systems):
        found = [(row.audio_s, median(row.seconds) / row.audio_s) for row in _timed(summary.results.rows, name)]
        if found:
            series.append((i, found))
    if not series:
        return ""
    lengths = [length for _, found in series for length, _ in found]
    speeds = [speed for _, found in series for _, speed in found]
    x = Scale(min(lengths) * 0.9, max(lengths) * 1.1, LEFT, WIDTH - RIGHT, logarithmic=True)
    y = Scale(min(speeds) * 0.8, max(speeds) * 1.25, HEIGHT - BOTTOM, TOP, logarithmic=True)
    marks = []
    for i, found in series:
        every = max(1, len(found) * len(series) // MAX_POINTS)
        marks += [
            f'<circle cx="{x(length):.1f}" cy="{y(speed):.1f}" r="1.8" style="fill:{_colour(i)};opacity:.35"/>'
            for length, speed in found[::every]
        ]
    for i, found in series:
        path = " ".join(f"{x(length):.1f},{y(speed):.1f}" for length, speed in _medians(found))
        marks.append(f'<polyline points="{path}" style="fill:none;stroke:{_colour(i)};stroke-width:2.5"/>')
    return _frame("Speed against length", x, y, "length of the utterance, s", "RTF (lower is faster)", "".join(marks))


def line_plot(
    title: str,
    series: Mapping[str, Sequence[tuple[float, float]]],
    x_title: str,
    y_title: str,
    *,
    logarithmic: bool = True,
    marks: Sequence[tuple[float, str]] = (),
) -> str:
    """Return lines through points, one colour per name, each labelled at its end; "" where there are none.

    Args:
        title: for screen readers.
        series: name -> points, by rising x.
        x_title: under the axis.
        y_title: beside the axis.
        logarithmic: both axes; else both even, from 0.
        marks: x values to draw an upright with a label at.
    """
    points = [point for found in series.values() for point in found]
    if not points:
        return ""
    (low_x, high_x), (low_y, high_y) = ((min(values), max(values)) for values in zip(*points, strict=True))
    if logarithmic:
        x = Scale(low_x * 0.8, high_x * 1.3, LEFT, WIDTH - RIGHT - LABEL_ROOM, logarithmic=True)
        y = Scale(low_y * 0.8, high_y * 1.3, HEIGHT - BOTTOM, TOP, logarithmic=True)
    else:
        x = Scale(0, high_x or 1, LEFT, WIDTH - RIGHT - LABEL_ROOM)
        y = Scale(0, high_y * 1.08 or 1, HEIGHT - BOTTOM, TOP)
    drawn = [
        f'<line x1="{x(at):.1f}" x2="{x(at):.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}" class="grid"/>'
        f'<text transform="translate({x(at) + 10:.1f} {TOP + 2}) rotate(90)">{html.escape(label)}</text>'
        for at, label in marks
    ]
    labels = _Labels([(x(found[-1][0]), y(found[-1][1])) for found in series.values()])
    for i, (name, found) in enumerate(series.items()):
        path = " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in found)
        drawn.append(f'<polyline points="{path}" style="fill:none;stroke:{_colour(i)};stroke-width:2.2"/>')
        if len(found) <= MAX_DOTS:
            drawn += [f'<circle cx="{x(a):.1f}" cy="{y(b):.1f}" r="3.5" style="fill:{_colour(i)}"/>' for a, b in found]
        drawn.append(labels.place(x(found[-1][0]), y(found[-1][1]), name, i))
    return _frame(title, x, y, x_title, y_title, "".join(drawn))


def whisker(interval: Interval, scale: Scale, index: int) -> str:
    """Return a small dot with its interval on a scale shared by a column of a table."""
    low, high, middle = (
        scale(min(max(v, scale.low), scale.high)) for v in (interval.low, interval.high, interval.value)
    )
    return (
        f'<svg class="whisker" viewBox="0 0 {scale.end + 6:.0f} 16" role="img" aria-label="95 % interval">'
        f'<line x1="{scale.start:.1f}" y1="8" x2="{scale.end:.1f}" y2="8" class="rail"/>'
        f'<line x1="{low:.1f}" y1="8" x2="{high:.1f}" y2="8" style="stroke:{_colour(index)};stroke-width:3"/>'
        f'<circle cx="{middle:.1f}" cy="8" r="4.5" style="fill:{_colour(index)}"/></svg>'
    )


def _timed(rows: Sequence[ResultRow], system: str) -> list[ResultRow]:
    return [row for row in rows if row.system == system and row.seconds and row.audio_s and not row.error]


def _medians(found: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the median length and speed of length classes that hold equally many utterances."""
    ordered = sorted(found)
    n_bins = max(1, min(LENGTH_BINS, len(ordered) // 3))
    edges = [len(ordered) * k // n_bins for k in range(n_bins + 1)]
    parts = [ordered[a:b] for a, b in itertools.pairwise(edges)]
    return [(median(length for length, _ in part), median(speed for _, speed in part)) for part in parts]


def _frame(title: str, x: Scale, y: Scale, x_title: str, y_title: str, marks: str) -> str:
    """Return the whole drawing: grid, axes, titles and marks."""
    grid = "".join(
        f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(v):.1f}" y2="{y(v):.1f}" class="grid"/>'
        f'<text x="{LEFT - 8}" y="{y(v) + 4:.1f}" text-anchor="end">{_number(v)}</text>'
        for v in y.ticks()
    )
    grid += "".join(
        f'<line x1="{x(v):.1f}" x2="{x(v):.1f}" y1="{HEIGHT - BOTTOM}" y2="{HEIGHT - BOTTOM + 4}" class="axis"/>'
        f'<text x="{x(v):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{_number(v)}</text>'
        for v in x.ticks()
    )
    centre, middle = (LEFT + WIDTH - RIGHT) / 2, (TOP + HEIGHT - BOTTOM) / 2
    return (
        f'<svg class="plot" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{html.escape(title)}">'
        f'{grid}<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{HEIGHT - BOTTOM}" y2="{HEIGHT - BOTTOM}" class="axis"/>'
        f'<text x="{centre:.0f}" y="{HEIGHT - 6}" text-anchor="middle">{html.escape(x_title)}</text>'
        f'<text transform="translate(14 {middle:.0f}) rotate(-90)" text-anchor="middle">{html.escape(y_title)}</text>'
        f"{marks}</svg>"
    )


def _upright(px: float, low: float, high: float, index: int) -> str:
    style = f"stroke:{_colour(index)};stroke-width:2"
    caps = "".join(
        f'<line x1="{px - 5:.1f}" x2="{px + 5:.1f}" y1="{v:.1f}" y2="{v:.1f}" style="{style}"/>' for v in (low, high)
    )
    return f'<line x1="{px:.1f}" x2="{px:.1f}" y1="{low:.1f}" y2="{high:.1f}" style="{style}"/>{caps}'


class _Labels:
    """Places names beside marks so that they cover neither each other nor other marks."""

    def __init__(self, marks: Sequence[tuple[float, float]]) -> None:
        self._boxes = [(x - 7, x + 7, y) for x, y in marks]

    def place(self, px: float, py: float, name: str, index: int) -> str:
        """Return the text element of a name, right or left of its mark, moved up or down where that is taken."""
        width = CHARACTER_WIDTH * len(name)
        right, left = (px + 10, px + 10 + width), (px - 10 - width, px - 10)
        places = [
            (side, py + shift)
            for shift in LABEL_SHIFTS
            for side in (right, left)
            if side[0] >= LEFT and side[1] <= WIDTH and TOP < py + shift < HEIGHT - BOTTOM
        ]
        (low, high), y = next((place for place in places if self._is_free(place)), (right, py))
        self._boxes.append((low, high, y))
        return (
            f'<text x="{low:.1f}" y="{y + 4:.1f}" style="fill:{_colour(index)};font-weight:600">'
            f"{html.escape(name)}</text>"
        )

    def _is_free(self, place: tuple[tuple[float, float], float]) -> bool:
        (low, high), y = place
        return not any(
            low < b_high and b_low < high and abs(y - b_y) < LINE_HEIGHT for b_low, b_high, b_y in self._boxes
        )


def _colour(index: int) -> str:
    return f"var(--s{index % N_COLOURS})"


def _number(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
