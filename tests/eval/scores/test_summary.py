"""Figures of a run from rows made by hand: every utterance in exactly one count, every decision visible."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("jiwer", reason="needs the eval extra")
pytest.importorskip("whisper_normalizer", reason="needs the eval extra")

from qwen3_asr_onnx.errors import OptionsError
from qwen3_asr_onnx_eval.report.report import embed, readme_block, report_markdown
from qwen3_asr_onnx_eval.report.tables import counts_table, speed_table, summary_csv, utterances_csv
from qwen3_asr_onnx_eval.results.rows import Header, ResultRow, Results
from qwen3_asr_onnx_eval.scores.compare import compare_runs
from qwen3_asr_onnx_eval.scores.summary import Summary, summarize

ENVIRONMENT = {"cpu": "A CPU", "cpu_features": ["avx2"], "cores": 2, "commit": "0123456789ab", "python": "3.11.7"}
SETTINGS = {"kind": "ours", "model": "b", "precision": "x", "threads": 2, "repeats": 1, "interleaved": True}


def row(system: str, index: int, reference: str, hypothesis: str | None, language: str = "English") -> ResultRow:
    return ResultRow(
        system=system,
        id=f"u{index}",
        where=f"m.jsonl:{index}",
        subset="short" if index < 3 else "long",
        speaker="",
        language=language,
        reference=reference,
        audio_s=2.0,
        audio_sha256=f"{index:064}",
        audio_path="",
        hypothesis=hypothesis,
        hypothesis_language=language,
        seconds=(0.5, 0.2, 0.3),
        harness_s=0.01,
        load_s=1.5,
        peak_rss=100_000_000 + index,
        info={"size_bytes": 5_000_000, "versions": {"onnxruntime": "1"}},
        settings=SETTINGS,
        environment=ENVIRONMENT,
        at="2026-01-02T03:04:05Z",
    )


def rows(system: str, third: str = "cat dog fox") -> list[ResultRow]:
    return [
        row(system, 1, "Red green blue.", "red green"),
        row(system, 2, "Ja, nein.", "", "German"),
        row(system, 3, "cat dog fox", third),
        replace(row(system, 4, "你好世界", None, "Chinese"), error="died", error_kind="system", seconds=()),
        row(system, 5, "", "Thank you.", ""),
        row(system, 6, "  ", "", ""),
        row(system, 7, "…!", "", "German"),
        replace(row(system, 8, "lost", None), error="no audio", error_kind="audio", seconds=(), audio_s=0),
        replace(row(system, 9, "", None, ""), error="died", error_kind="system", seconds=()),
    ]


def summary(found: Sequence[ResultRow], n: int = 10) -> Summary:
    return summarize(Results(Header("set", "digest", n, ("m.jsonl:99: gone",)), tuple(found)))


def test_every_utterance_is_in_exactly_one_count() -> None:
    (one,) = summary(rows("a")).systems
    assert (one.n_scored, one.n_no_speech, one.n_no_units, one.n_undecodable, one.n_missing) == (4, 3, 1, 1, 1)
    assert one.n_failed == 2
    overall = one.overall
    assert overall is not None
    assert overall.metric == "WER/CER"
    # "blue" missing; two German words missing; four characters of the failed one missing.
    assert (overall.substitutions, overall.deletions, overall.insertions, overall.n_units) == (0, 7, 0, 12)
    assert overall.interval.value == 7 / 12
    assert (overall.n_empty, overall.n_exact) == (2, 1)


def test_silence_language_speed_and_memory() -> None:
    (one,) = summary(rows("a")).systems
    assert one.hallucination is not None
    assert (one.hallucination.value, one.hallucination.n, one.n_invented) == (0.5, 2, 2)
    assert one.language_id is not None
    assert (one.language_id.value, one.language_id.n) == (1.0, 3)
    assert one.speed is not None
    assert one.speed.rtf.value == pytest.approx(0.15)  # the median of the three repeats over two seconds
    assert one.speed.latency_s[50] == pytest.approx(0.3)
    assert one.speed.harness_share == pytest.approx(0.01)
    assert one.peak_rss == 100_000_009
    assert set(one.by_language) == {"English", "German", "Chinese"}
    assert one.by_language["Chinese"].metric == "CER"
    assert set(one.by_subset) == {"short", "long"}


def test_a_system_that_tells_no_language_has_no_score_for_it() -> None:
    silent = [replace(one, hypothesis_language=None) for one in rows("a")]
    assert summary(silent).systems[0].language_id is None


def test_pairs_leave_out_what_only_one_has() -> None:
    other = [one for one in rows("b", third="cat dog") if one.id != "u1"]
    changed = replace(other[0], audio_sha256="f" * 64)
    (pair,) = summary([*rows("a"), changed, *other[1:]]).pairs
    assert (pair.first, pair.second, pair.n) == ("a", "b", 2)
    assert pair.test.difference.value == pytest.approx(-1 / 7)
    assert (pair.test.n_first_better, pair.test.n_second_better) == (1, 0)


def test_tables_show_the_counts_and_survive_any_text() -> None:
    text = report_markdown(summary([*rows("a|b"), *rows("c", third="cat <b>\nfox")]))
    assert "a\\|b" in text
    assert "58.33 [" in text
    assert "m.jsonl:99: gone" in text
    assert "m.jsonl:8 (u8): no audio" in text
    header, *cells = counts_table(summary(rows("a"))).rows[0]
    assert header == "a"
    assert sum(map(int, cells[:5])) == 10
    assert speed_table(summary(rows("a"))).rows[0][1].startswith("0.15 [")


def test_csv_holds_unrounded_figures_and_all_rows() -> None:
    found = summary(rows("a"))
    systems = list(csv.DictReader(io.StringIO(summary_csv(found))))
    assert float(systems[0]["rate"]) == 7 / 12
    assert {line["group"] for line in systems} == {"all", "language", "subset"}
    utterances = list(csv.DictReader(io.StringIO(utterances_csv(found))))
    assert len(utterances) == 9
    assert utterances[0]["deletions"] == "1"


def test_a_run_of_which_nothing_could_be_scored() -> None:
    pytest.importorskip("jinja2", reason="needs the eval extra")
    from qwen3_asr_onnx_eval.report.page import report_page

    found = summary([one for one in rows("a") if one.error_kind == "audio"])
    assert (found.systems[0].overall, found.systems[0].speed, found.pairs) == (None, None, ())
    assert "| a | 5.0 MB | – |" in report_markdown(found)
    assert "the audio cannot be decoded" in report_page(found)


def test_two_runs_are_compared_utterance_by_utterance() -> None:
    before, after = summary([*rows("a"), *rows("x")]), summary([*rows("a", third="cat"), *rows("y")])
    found = compare_runs(before, after)
    (change,) = found.changes
    assert (found.only_before, found.only_after) == (("x",), ("y",))
    assert (change.pair.first, change.pair.second, change.n_better, change.n_worse) == ("a (before)", "a (after)", 0, 1)
    assert [first.id for first, _ in change.rows] == ["u3"]
    renamed = compare_runs(summary(rows("int4")), summary(rows("int8")))
    assert renamed.changes[0].pair.second == "int8 (after)"
    strangers = [replace(one, id=f"other {one.id}") for one in rows("a")]
    with pytest.raises(OptionsError, match="nothing in common"):
        compare_runs(before, summary(strangers))


def test_a_readme_block_is_put_between_its_markers(tmp_path: Path) -> None:
    block = readme_block(summary(rows("a")))
    assert "set, 10 utterances" in block
    assert "commit 0123456789ab; 2026-01-02" in block
    assert embed("x <!-- eval -->old<!-- /eval --> y", "eval", block) == f"x <!-- eval -->\n{block}<!-- /eval --> y"
    with pytest.raises(OptionsError, match="no <!-- eval -->"):
        embed("nothing here", "eval", block)
