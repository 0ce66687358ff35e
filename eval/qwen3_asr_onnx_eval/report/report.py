"""Results -> what people look at: report.html, report.md, systems.csv, utterances.csv, compare.html, README blocks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from qwen3_asr_onnx.errors import OptionsError
from qwen3_asr_onnx.outputs.saving import write_atomically
from qwen3_asr_onnx_eval.results.rows import read_results
from qwen3_asr_onnx_eval.scores.compare import compare_runs
from qwen3_asr_onnx_eval.scores.summary import Summary, summarize

from .page import comparison_page, report_page
from .tables import (
    accuracy_table,
    caption,
    counts_table,
    group_tables,
    markdown,
    pairs_table,
    readme_table,
    speed_table,
    summary_csv,
    utterances_csv,
)

__all__ = [
    "embed",
    "find_results",
    "load_summary",
    "readme_block",
    "report_markdown",
    "write_comparison",
    "write_report",
]

RESULTS_FILE = "results.jsonl"


def find_results(path: Path) -> Path:
    """Return the results file that a path means: itself, or the one in a folder.

    Raises:
        OptionsError: there is none.
    """
    found = path / RESULTS_FILE if path.is_dir() else path
    if not found.is_file():
        raise OptionsError(f"{found}: no such results; `qwen3-asr-onnx eval` writes them")
    return found


def load_summary(path: Path) -> Summary:
    """Return the figures of a results file or of the folder that holds one.

    Raises:
        OptionsError: there is none, or it has no row yet.
    """
    results = read_results(find_results(path))
    if not results.rows:
        raise OptionsError(f"{path}: no utterance has been evaluated yet")
    return summarize(results)


def write_report(summary: Summary, folder: Path) -> list[Path]:
    """Write the report of one run into a folder and return its files, the page first."""
    texts = {
        "report.html": report_page(summary),
        "report.md": report_markdown(summary),
        "systems.csv": summary_csv(summary),
        "utterances.csv": utterances_csv(summary),
    }
    for name, text in texts.items():
        write_atomically(folder / name, text)
    return [folder / name for name in texts]


def write_comparison(before: Summary, after: Summary, path: Path) -> None:
    """Write the comparison of two runs.

    Raises:
        OptionsError: the runs have nothing in common.
    """
    write_atomically(path, comparison_page(compare_runs(before, after)))


def report_markdown(summary: Summary) -> str:
    """Return every table of the report in Markdown."""
    tables = [accuracy_table(summary), speed_table(summary), *group_tables(summary), counts_table(summary)]
    if summary.pairs:
        tables.append(pairs_table(summary.pairs))
    parts = [f"# Evaluation of {summary.results.header.dataset}\n", f"{caption(summary)}\n"]
    parts += [f"## {table.title}\n\n{markdown(table)}" for table in tables]
    failures = [f"- {row.where} ({row.id}): {row.error}" for row in summary.results.rows if row.error]
    unusable = [f"- {problem}" for problem in summary.results.header.problems]
    parts += ["\n".join(("## Unusable entries\n", *unusable, ""))] if unusable else []
    parts += ["\n".join(("## Failures\n", *failures, ""))] if failures else []
    return "\n".join(parts)


def readme_block(summary: Summary) -> str:
    """Return what a README shows of a run: where it was measured, and the table of systems."""
    table = readme_table(summary)
    return f"{caption(summary)}. {table.note}\n\n{markdown(replace(table, note=''))}"


def embed(document: str, name: str, block: str) -> str:
    """Return the document with `block` in the place of what is between <!-- name --> and <!-- /name -->.

    Raises:
        OptionsError: the document lacks a marker.
    """
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    before, opening, rest = document.partition(begin)
    _, closing, after = rest.partition(end)
    if not (opening and closing):
        raise OptionsError(f"the document has no {begin} followed by {end}; put both where the table belongs")
    return f"{before}{begin}\n{block}{end}{after}"
