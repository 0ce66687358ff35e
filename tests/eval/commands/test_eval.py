"""`eval` and `report` as a user types them, on the tiny bundle; and what they say when something is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("jinja2", reason="needs the eval extra")
pytest.importorskip("jiwer", reason="needs the eval extra")

from qwen3_asr_onnx.commands.cli import main
from qwen3_asr_onnx.commands.command import EXIT_FAILED, EXIT_OK, EXIT_USAGE

TINY = str(Path(__file__).resolve().parents[2] / "data" / "tiny_bundle")
Make = Callable[..., Path]
ROWS = [(0.3, "One.", "English"), (0.5, "Zwei.", "German"), (0.4, "", "")]


def evaluate(*argv: object) -> int:
    return main(["eval", TINY, *map(str, argv), "--settle-ms", "0", "--quiet"])


def test_a_run_and_its_report(make_dataset: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest, out = make_dataset(ROWS), tmp_path / "out"

    assert evaluate(manifest, "--output", out, "--threads", 1) == EXIT_OK

    printed = capsys.readouterr()
    assert printed.out.startswith("| system | size | error rate % |")
    assert "3 transcribed; report:" in printed.err
    assert {path.name for path in out.iterdir()} == {
        "results.jsonl", "report.html", "report.md", "systems.csv", "utterances.csv"
    }  # fmt: skip
    lines = (out / "results.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 4
    assert evaluate(manifest, "--output", out, "--threads", 1) == EXIT_OK
    assert "0 transcribed, 3 done before" in capsys.readouterr().err

    assert evaluate(manifest, "--output", out, "--threads", 2, "--overwrite") == EXIT_OK
    assert (out / "results.previous.jsonl").read_text(encoding="utf-8").splitlines() == lines
    (out / "results.previous.jsonl").unlink()

    before = (out / "report.html").read_bytes()
    assert main(["report", str(out)]) == EXIT_OK
    assert (out / "report.html").read_bytes() == before, "the same rows give the same page"
    assert main(["report", str(out), "--against", str(out), "--output", str(tmp_path)]) == EXIT_OK
    assert "Every utterance has as many errors as before." in (tmp_path / "compare.html").read_text(encoding="utf-8")
    readme = tmp_path / "README.md"
    readme.write_text("# x\n<!-- eval -->\n<!-- /eval -->\n", encoding="utf-8")
    capsys.readouterr()
    assert main(["report", str(out), "--into", str(readme)]) == EXIT_OK
    assert "| fp32 |" in readme.read_text(encoding="utf-8")
    assert main(["report", str(out), "--markdown"]) == EXIT_OK
    assert "## Counts" in capsys.readouterr().out


def test_a_faulty_dataset_is_refused_or_counted(
    make_dataset: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest, out = make_dataset(ROWS), tmp_path / "out"
    with manifest.open("a", encoding="utf-8") as file:
        file.write(json.dumps({"path": "gone.wav", "text": "x"}) + "\n")
    (tmp_path / "clip1.wav").write_bytes(b"RIFF....WAVEfmt ")

    assert evaluate(manifest, "--output", out) == EXIT_USAGE
    assert f"{manifest}:4: " in capsys.readouterr().err
    assert not out.exists()
    assert evaluate(manifest, "--output", out, "--keep-going") == EXIT_FAILED
    said = capsys.readouterr().err
    assert f"not evaluated: {manifest}:4: " in said
    assert f"{manifest}:2: " in said
    assert "2 transcribed, 1 not decodable" in said
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "<b>4</b><span>entries listed</span>" in page
    assert "<b>1</b><span>unusable</span>" in page
    assert "<b>1</b><span>undecodable</span>" in page


def test_segments_limit_and_forced_language(make_dataset: Make, tmp_path: Path) -> None:
    segments = [{"start_s": 0.0, "end_s": 0.2, "text": "a"}, {"start_s": 0.2, "end_s": 0.3, "text": "b"}]
    manifest = make_dataset(ROWS[:1], segments=segments)
    out = tmp_path / "out"
    assert evaluate(manifest, "--by-segment", "--force-language", "de", "--limit", 1, "-o", out) == EXIT_OK
    header, row = (json.loads(line) for line in (out / "results.jsonl").read_text(encoding="utf-8").splitlines())
    assert (header["n_utterances"], header["forced_language"]) == (1, "German")
    assert (row["id"], row["audio_s"], row["hypothesis_language"]) == ("u0#0", 0.2, "German")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--variants", "int3"], "no variant 'int3'"),
        (["--system", "whisper:x"], "KIND:MODEL"),
        (["--system", "official:x"], "--official-python"),
        (["--language", "Klingon"], "Klingon"),
        (["--threads", "0"], "not a whole number above 0"),
        (["--timeout-s", "-1"], "at least 0.001"),
    ],
)
def test_wrong_options(
    argv: list[str], message: str, make_dataset: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        status = evaluate(make_dataset(ROWS), "--output", tmp_path / "out", *argv)
    except SystemExit as stop:
        status = int(stop.code or 0)
    assert status == EXIT_USAGE
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_no_system_and_no_results(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", "none", "mini-clips"]) == EXIT_USAGE
    assert "no system to evaluate" in capsys.readouterr().err
    assert main(["report", str(tmp_path)]) == EXIT_USAGE
    assert "no such results" in capsys.readouterr().err
