"""The report as a person meets it: opened in Chromium, its plots seen, its audio played, nothing fetched."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tests.support.chromium import open_page

pytest.importorskip("jinja2", reason="needs the eval extra")
pytest.importorskip("jiwer", reason="needs the eval extra")
pytest.importorskip("soundfile", reason="needs the audio extra")

from qwen3_asr_onnx_eval.datasets.manifest import read_manifest
from qwen3_asr_onnx_eval.report.report import load_summary, write_comparison, write_report
from qwen3_asr_onnx_eval.results.evaluation import EvaluationPlan, evaluate
from qwen3_asr_onnx_eval.systems.process import SystemSpec

Make = Callable[..., Path]
ROWS = [
    (0.6 + 0.2 * i, f"Number {word} is right.", "English") for i, word in enumerate(("one", "two", "three", "four"))
]
HOSTILE = '<script>document.title = "owned"</script> & "quotes"'


@pytest.fixture
def run(make_dataset: Make, make_answers: Make, tmp_path: Path, fake_systems: None) -> Path:
    """A folder with the results of two systems on five utterances, one of them silence."""
    dataset = read_manifest(make_dataset([*ROWS, (2.0, "", "")]))
    good = {seconds: text for seconds, text, _ in ROWS}
    bad = {**good, 0.6: "Number is wrong <b>", 0.8: {"raise": HOSTILE}, 2.0: HOSTILE}
    specs = [SystemSpec(n, "fake", str(make_answers(n, a)), "", t) for n, a, t in (("good", good, 4), ("bad", bad, 1))]
    evaluate(dataset, specs, EvaluationPlan(settle_s=0), tmp_path / "run" / "results.jsonl")
    return tmp_path / "run"


@pytest.mark.program("chromium")
def test_the_page_opens_shows_its_plots_and_plays_its_audio(run: Path, tmp_path: Path) -> None:
    page_file = write_report(load_summary(run), run)[0]
    with open_page(page_file, tmp_path / "profile") as page:
        assert page.evaluate("document.title") == "Evaluation of manifest"
        sizes = page.evaluate(
            """Array.from(document.querySelectorAll("svg.plot"),
                          plot => [plot.getBoundingClientRect().width, plot.querySelectorAll("circle").length])"""
        )
        assert len(sizes) == 2
        assert all(width > 300 and n_marks >= 2 for width, n_marks in sizes)
        played = page.evaluate(
            """(async () => {
                const audio = document.querySelector("audio");
                await audio.play();
                await new Promise(done => { audio.ontimeupdate = () => audio.currentTime > 0 && done(); });
                return audio.duration;
            })()"""
        )
        assert played == pytest.approx(2.0, abs=0.01)  # the invented text on silence is the worst
        found = page.evaluate(
            'Array.from(document.querySelectorAll(".edit.sub, ins.edit, del.edit"), e => e.textContent)'
        )
        assert "wrong" in " ".join(found)
        assert page.evaluate('document.querySelectorAll(".utterance").length') >= 3
        assert [url for url in page.requested if not url.startswith(("file:", "data:"))] == []
        assert page.errors == []
        light, dark = tmp_path / "light.png", tmp_path / "dark.png"
        page.screenshot(light)
        page.screenshot(dark, dark=True)
    check_pictures(light, dark)


def check_pictures(light: Path, dark: Path) -> None:
    """The page is light or dark as asked for, and both systems' colours are to be seen."""
    image = pytest.importorskip("matplotlib.image")
    pictures = [image.imread(path)[..., :3] for path in (light, dark)]
    assert pictures[0].mean() > 0.9
    assert pictures[1].mean() < 0.25
    for picture, colours in zip(pictures, (("2456a6", "c2570c"), ("8ab4ff", "ffab70")), strict=True):
        for colour in colours:
            wanted = np.array([int(colour[i : i + 2], 16) / 255 for i in (0, 2, 4)])
            assert int((np.abs(picture - wanted).max(axis=-1) < 0.03).sum()) > 200, colour


def test_hostile_text_stays_text(run: Path) -> None:
    page = write_report(load_summary(run), run)[0].read_text(encoding="utf-8")
    assert HOSTILE not in page
    assert "&lt;script&gt;document.title" in page
    assert page.count("<script>") == 1


def test_the_comparison_shows_what_changed(run: Path, make_answers: Make, tmp_path: Path) -> None:
    before = load_summary(run)
    better = {seconds: text for seconds, text, _ in ROWS}
    spec = SystemSpec("bad", "fake", str(make_answers("better", better)), "", 1)
    evaluate(read_manifest(tmp_path / "manifest.jsonl"), [spec], EvaluationPlan(settle_s=0), tmp_path / "after.jsonl")
    path = tmp_path / "compare.html"
    write_comparison(before, load_summary(tmp_path / "after.jsonl"), path)
    page = path.read_text(encoding="utf-8")
    assert "bad (before)" in page
    assert "3 utterances have fewer errors than before, 0 have more" in page
    assert "Not compared: good" in page
    assert page.count("<audio") == 3


def test_a_run_without_an_error_says_so(
    make_dataset: Make, make_answers: Make, tmp_path: Path, fake_systems: None
) -> None:
    dataset = read_manifest(make_dataset(ROWS))
    answers = make_answers("a", {seconds: text for seconds, text, _ in ROWS})
    evaluate(dataset, [SystemSpec("a", "fake", str(answers), "", 1)], EvaluationPlan(settle_s=0), tmp_path / "r.jsonl")
    page = write_report(load_summary(tmp_path / "r.jsonl"), tmp_path)[0].read_text(encoding="utf-8")
    assert "No system made an error." in page
