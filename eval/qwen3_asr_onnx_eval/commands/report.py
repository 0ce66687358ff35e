"""The verb `report`: saved results in; pages, tables and README blocks out. Imports nothing heavy until it runs."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from qwen3_asr_onnx.commands.command import EXIT_OK, Command
from qwen3_asr_onnx.commands.console import emit, say
from qwen3_asr_onnx.errors import OptionsError

__all__ = ["COMMAND"]


def _add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("results", metavar="RUN", type=Path, help="folder that `eval` wrote, or its results.jsonl[.gz]")
    parser.add_argument("--against", metavar="RUN", type=Path, help="an earlier run to compare with")
    parser.add_argument(
        "-o",
        "--output-dir",
        dest="output",
        metavar="DIR",
        type=Path,
        help="folder for the files (default: beside the results)",
    )
    parser.add_argument(
        "--into",
        metavar="FILE",
        type=Path,
        help="put the table between <!-- BLOCK --> and <!-- /BLOCK --> of this file",
    )
    parser.add_argument("--block", default="eval", help="name of the markers for --into (default: %(default)s)")
    parser.add_argument("--markdown", action="store_true", help="print the tables instead of writing files")
    parser.add_argument("-q", "--quiet", action="store_true", help="do not say where the files are")


def _run(args: Namespace) -> int:
    from qwen3_asr_onnx_eval.report.report import (
        embed,
        find_results,
        load_summary,
        readme_block,
        report_markdown,
        write_comparison,
        write_report,
    )

    if args.into is not None and args.against is not None:
        raise OptionsError("--into takes the table of one run; leave out --against")
    summary = load_summary(args.results)
    if args.into is not None:
        document = args.into.read_text(encoding="utf-8")
        args.into.write_text(embed(document, args.block, readme_block(summary)), encoding="utf-8", newline="\n")
        return EXIT_OK
    if args.markdown:
        emit(report_markdown(summary))
        return EXIT_OK
    folder = args.output or find_results(args.results).parent
    if args.against is not None:
        path = folder / "compare.html"
        write_comparison(load_summary(args.against), summary, path)
        if not args.quiet:
            say(f"comparison: {path}")
        return EXIT_OK
    files = write_report(summary, folder)
    if not args.quiet:
        say(f"report: {', '.join(str(path) for path in files)}")
    return EXIT_OK


COMMAND = Command("report", "tables, plots and pages from saved results; compare two runs", _add_arguments, _run)
