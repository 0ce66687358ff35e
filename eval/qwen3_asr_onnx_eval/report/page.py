"""Summaries -> self-contained HTML pages: the report of a run, and the comparison of two runs.

Nothing is fetched: styles, plots, script and the audio of the worst utterances are inside the file.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from qwen3_asr_onnx.arrays import SAMPLE_RATE
from qwen3_asr_onnx.errors import AudioError, LimitError, MissingExtra
from qwen3_asr_onnx_eval.datasets.dataset import Utterance, read_waveform
from qwen3_asr_onnx_eval.results.rows import ResultRow
from qwen3_asr_onnx_eval.scores.compare import Change, Comparison
from qwen3_asr_onnx_eval.scores.summary import Summary, score_row
from qwen3_asr_onnx_eval.scores.utterance import Edit

from .plots import N_COLOURS, Scale, error_against_size, speed_against_length, whisker
from .tables import accuracy_table, caption, counts_table, group_tables, pairs_table, speed_table

if TYPE_CHECKING:
    import jinja2

__all__ = ["comparison_page", "report_page", "templates"]

MAX_LISTED = 400
N_WITH_AUDIO = 20
MAX_AUDIO_BYTES = 12_000_000
"""Of FLAC in one page: about ten minutes of speech."""

WHISKER_WIDTH = 110


@dataclass(frozen=True, slots=True)
class Heard:
    """One system's answer as the page shows it: `edits` for the coloured text, `rate` in percent, `colour` index."""

    system: str
    colour: int
    errors: int
    rate: str
    edits: Sequence[Edit]
    joiner: str
    language: str
    seconds: str
    error: str


@dataclass(frozen=True, slots=True)
class Shown:
    """One utterance as the page shows it; `audio` is a data: URL, or "" with the reason in `no_audio`."""

    row: ResultRow
    n_errors: int
    heard: Sequence[Heard]
    audio: str = ""
    no_audio: str = ""


def report_page(summary: Summary) -> str:
    """Return the report of one run."""
    by_id = _rows_by_id(summary)
    ranked = sorted(by_id.values(), key=_badness, reverse=True)
    wrong = [rows for rows in ranked if _badness(rows) > 0]
    colours = {name: i % N_COLOURS for i, name in enumerate(summary.results.systems)}
    return (
        templates()
        .get_template("report.html.j2")
        .render(
            title=f"Evaluation of {summary.results.header.dataset}",
            caption=caption(summary),
            summary=summary,
            header=summary.results.header,
            accuracy=accuracy_table(summary),
            speed=speed_table(summary),
            whiskers=_whiskers(summary),
            counts=counts_table(summary),
            groups=group_tables(summary),
            pairs=pairs_table(summary.pairs) if summary.pairs else None,
            plots=[
                ("Error rate against size on disk, with 95 % intervals", error_against_size(summary)),
                ("Speed against length: a dot per utterance, lines through medians", speed_against_length(summary)),
            ],
            worst=_with_audio(wrong[:N_WITH_AUDIO], colours, summary.results.folder),
            listed=[_shown(rows, colours) for rows in wrong[:MAX_LISTED]],
            n_wrong=len(wrong),
            n_right=len(ranked) - len(wrong),
            colours=colours,
            failures=[row for row in summary.results.rows if row.error],
            environments=_environments(summary),
        )
    )


def comparison_page(comparison: Comparison) -> str:
    """Return the comparison of two runs."""
    return (
        templates()
        .get_template("compare.html.j2")
        .render(
            title="Comparison of two runs",
            comparison=comparison,
            captions=[caption(comparison.before), caption(comparison.after)],
            pairs=pairs_table([change.pair for change in comparison.changes]),
            changes=[(change, _changed(change, comparison.before.results.folder)) for change in comparison.changes],
        )
    )


def _changed(change: Change, folder: Path) -> list[Shown]:
    """Return the utterances that changed, those that changed most with their audio."""
    colours = {change.pair.first: 0, change.pair.second: 1}
    listed = change.rows[:MAX_LISTED]
    heard = _with_audio(listed[:N_WITH_AUDIO], colours, folder)
    return [*heard, *(_shown(rows, colours) for rows in listed[N_WITH_AUDIO:])]


def _with_audio(utterances: Sequence[Sequence[ResultRow]], colours: Mapping[str, int], folder: Path) -> list[Shown]:
    """Return utterances with their audio in the page, as long as it does not grow too large."""
    budget = MAX_AUDIO_BYTES
    shown = []
    for rows in utterances:
        audio, why_not = _embedded_audio(rows[0], folder, budget)
        budget -= len(audio)
        shown.append(_shown(rows, colours, audio, why_not))
    return shown


def _rows_by_id(summary: Summary) -> dict[str, list[ResultRow]]:
    found: dict[str, list[ResultRow]] = {}
    for row in summary.results.rows:
        found.setdefault(row.id, []).append(row)
    order = {name: i for i, name in enumerate(summary.results.systems)}
    return {id_: sorted(rows, key=lambda row: order[row.system]) for id_, rows in found.items()}


def _badness(rows: Sequence[ResultRow]) -> float:
    """Return the mean number of errors over the systems; a failure weighs at least one."""
    return sum(max(score_row(row).errors, int(bool(row.error))) for row in rows) / len(rows)


def _shown(rows: Sequence[ResultRow], colours: Mapping[str, int], audio: str = "", no_audio: str = "") -> Shown:
    heard = []
    for row in rows:
        score = score_row(row)
        rate = f"{100 * score.errors / score.n_units:.0f} %" if score.n_units else f"{score.errors} invented"
        heard.append(
            Heard(
                row.system,
                colours[row.system],
                score.errors,
                rate,
                score.edits,
                " " if score.unit == "word" else "",
                row.hypothesis_language or "",
                f"{median(row.seconds):.2f} s" if row.seconds else "",
                row.error,
            )
        )
    return Shown(rows[0], sum(one.errors for one in heard), heard, audio, no_audio)


def _embedded_audio(row: ResultRow, folder: Path, budget: int) -> tuple[str, str]:
    """Return a data: URL of the utterance's samples as FLAC, or why there is none."""
    if not row.audio_path or row.error_kind == "audio":
        return "", "the audio cannot be decoded" if row.error_kind == "audio" else "the audio is not a file"
    utterance = Utterance(row.id, folder / row.audio_path, "", "", "", start_s=row.start_s, end_s=row.end_s)
    try:
        waveform = read_waveform(utterance)
        import soundfile
    except (AudioError, LimitError, MissingExtra, OSError, ModuleNotFoundError) as error:
        return "", f"not embedded: {error}"
    buffer = io.BytesIO()
    soundfile.write(buffer, waveform, SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    url = "data:audio/flac;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
    if len(url) > budget:
        return "", f"not embedded, the page would grow too large: {row.audio_path}"
    return url, ""


def _whiskers(summary: Summary) -> list[str]:
    """Return a dot with its interval for each system's error rate, all on one scale from 0."""
    rates = [one.overall.interval for one in summary.systems if one.overall]
    if not rates:
        return ["" for _ in summary.systems]
    scale = Scale(0, max(rate.high for rate in rates) or 1.0, 6, WHISKER_WIDTH)
    return [whisker(one.overall.interval, scale, i) if one.overall else "" for i, one in enumerate(summary.systems)]


def _environments(summary: Summary) -> list[tuple[str, list[tuple[str, str]]]]:
    """Return for each system the facts of its runs, as pairs of name and text."""
    shown = []
    for one in summary.systems:
        facts: dict[str, Any] = {**one.settings, "load, s": f"{one.load_s:.2f}"}
        facts |= {f"version of {name}": value for name, value in one.info.get("versions", {}).items()}
        facts |= {key: value for key, value in one.info.items() if key not in {"versions", "sha256"}}
        for environment in one.environments:
            facts |= environment
        if one.speed:
            facts["harness overhead"] = f"{100 * one.speed.harness_share:.2f} % of the computing time"
        if len(one.environments) > 1:
            facts["note"] = f"measured in {len(one.environments)} environments; the last is shown"
        shown.append((one.name, [(name, _plain(value)) for name, value in facts.items()]))
    return shown


def _plain(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


@lru_cache(maxsize=1)
def templates() -> jinja2.Environment:
    """Return the pages' templates; text is escaped, and a name that is not given is an error.

    Raises:
        MissingExtra: Jinja2 is not installed.
    """
    try:
        import jinja2
    except ModuleNotFoundError as error:
        raise MissingExtra("the report needs Jinja2: pip install 'qwen3-asr-onnx[eval]'") from error
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
