"""`bench --serve` against a server that says what it is told to."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.support.clips import wav_bytes

pytest.importorskip("jiwer", reason="needs the eval extra")

from tests.support.fake_asr_server import FakeAsr
from tests.support.local_server import served

from qwen3_asr_onnx.commands.cli import main
from qwen3_asr_onnx.commands.cli import parse_args as load_arguments
from qwen3_asr_onnx.errors import OptionsError
from qwen3_asr_onnx_eval.bench.load import LoadClip, LoadPlan, _Level, run_load
from qwen3_asr_onnx_eval.bench.load_report import PUBLISHED, load_report
from qwen3_asr_onnx_eval.bench.wire import ROUTES, BadAnswer, exchange, make_request, parse_server

CLIP = LoadClip(b"RIFF....WAVE", 2.0)


def write_clip(path: Path) -> None:
    path.write_bytes(wav_bytes(np.zeros(1600, dtype=np.int16)))


def load(url: str, **options: Any) -> dict[str, Any]:
    plan = LoadPlan(parse_server(url), [CLIP], **{"concurrencies": (1,), **options})
    return run_load(plan, lambda _: None)


def test_each_level_sends_its_requests_over_every_route() -> None:
    seen: list[Any] = []
    with served(FakeAsr, text="one two", busy=0, seen=seen) as url:
        results = load(url, concurrencies=(1, 3), routes=ROUTES, requests=6)
    one, three = results["levels"]
    assert (one["answered"], three["answered"]) == (6, 18)
    assert not one["errors"]
    assert not three["errors"]
    assert {entry["text"] for entry in three["texts"]} == {"one two"}
    assert 0 < three["first_text_s"]["median"] <= three["latency_s"]["p95"]
    assert three["audio_s_per_s"] == pytest.approx(2.0 * three["requests_per_s"])
    assert three["rtf"] == pytest.approx(three["latency_s"]["mean"] / 2.0)
    assert [path for path, _, _ in seen].count("/v1/chat/completions") == 8
    assert all(b"RIFF....WAVE" in body or b"UklGRi4uLi5XQVZF" in body for _, _, body in seen)


def test_a_refusal_is_waited_for_and_counted_apart() -> None:
    with served(FakeAsr, text="one", busy=3, seen=[]) as url:
        (level,) = load(url, requests=2)["levels"]
    assert (level["answered"], level["refused"], level["errors"]) == (2, 3, {})
    assert level["latency_s"]["p95"] >= 0.03


def test_a_refusal_that_lasts_is_an_error() -> None:
    with served(FakeAsr, text="one", busy=9, seen=[], retry_after="7") as url:
        (level,) = load(url, requests=1, timeout_s=5.0)["levels"]
    assert (level["answered"], level["refused"], level["errors"]) == (0, 1, {"429": 1})


def test_errors_are_told_by_kind_with_the_servers_words() -> None:
    with served(FakeAsr, text="", busy=0, seen=[], status=500) as url:
        results = load(url, requests=2)
    (level,) = results["levels"]
    assert (level["errors"], level["messages"]) == ({"500": 2}, {"500": "it broke"})
    assert "2 x 500: it broke" in load_report({**results, "server": url})
    (level,) = load(url, requests=1)["levels"]  # nobody listens any more
    assert level["errors"] == {"connection": 1}


def test_a_stream_that_ends_early_is_no_answer() -> None:
    with served(FakeAsr, text="one two", busy=0, seen=[], cut_short=True) as url:
        server = parse_server(url)
        request = make_request(server, "stream", b"", "whisper-1")
        with pytest.raises(BadAnswer):
            asyncio.run(exchange(server, request))


def test_clients_that_leave_are_neither_answers_nor_errors() -> None:
    with served(FakeAsr, text="one", busy=0, seen=[]) as url:
        (level,) = load(url, concurrencies=(4,), requests=10, hang_up=0.5)["levels"]
    assert level["hung_up"] > 5
    assert level["answered"] + level["hung_up"] == 40
    assert not level["errors"]


def test_a_level_lasts_as_long_as_it_is_told() -> None:
    with served(FakeAsr, text="one", busy=0, seen=[]) as url:
        (level,) = load(url, duration_s=0.2, pid=os.getpid())["levels"]
    assert level["answered"] >= 1
    assert level["wall_s"] >= 0.2
    memory = level["memory_bytes"]
    assert memory["peak"] >= memory["start"] > 1e6
    assert memory["peak"] >= max(memory["warm"], memory["end"])


def test_memory_at_the_end_is_told_beside_that_of_a_warm_server() -> None:
    level = _Level(LoadPlan(parse_server("http://x"), [CLIP], (1,)), 1, [])
    level.memory = [n * 10**6 for n in [50, *[300] * 19, *[400] * 5, *[500] * 65, 900, *[420] * 9]]
    results = {"server": "", "routes": [], "clips": 1, "clip_s": [2.0], "hang_up": 0, "interrupted": False}
    told = load_report({**results, "levels": [level.figures()]})
    expected = "50 MB at the start, 400 after a fifth of the time, 900 at the peak, 420 at the end, which is +5.0%"
    assert expected in told
    level.memory = [7]
    assert level.figures()["memory_bytes"] == {"start": 7, "warm": 7, "peak": 7, "end": 7, "parts": [7]}


def test_a_manifest_of_bad_lines_is_one_line_of_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = tmp_path / "clips.jsonl"
    manifest.write_text("".join(json.dumps({"path": f"none{n}.wav", "text": "a"}) + "\n" for n in range(50)))
    assert main(["bench", "--serve", "http://x", "--clips", str(manifest)]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "50 entries cannot be sent" in line
    assert "none2.wav" in line
    assert "none3.wav" not in line


def test_each_client_sends_several_requests_unless_told_otherwise() -> None:
    assert load_arguments(["bench", "--serve", "http://x"]).requests == 4


def test_ctrl_c_keeps_what_is_there() -> None:
    seen: list[Any] = []
    with served(FakeAsr, text="one", busy=0, seen=seen) as url:

        def interrupt() -> None:
            while len(seen) < 3:
                time.sleep(0.001)
            os.kill(os.getpid(), signal.SIGINT)

        thread = threading.Thread(target=interrupt)
        before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
        try:
            thread.start()
            results = load(url, concurrencies=(1, 2), duration_s=60.0)
        finally:
            signal.signal(signal.SIGINT, before)
        thread.join()
    assert results["interrupted"]
    (level,) = results["levels"]
    assert level["answered"] >= 2


def test_the_verb_scores_a_manifest_and_reads_its_results_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = tmp_path / "clip.wav"
    write_clip(clip)
    manifest = tmp_path / "clips.jsonl"
    manifest.write_text(json.dumps({"path": str(clip), "text": "the cat sat down", "language": "English"}) + "\n")
    key = tmp_path / "key"
    key.write_text("secret\n")
    saved = tmp_path / "load.json"
    arguments = ["--clips", str(manifest), "--concurrency", "1,2", "--key-file", str(key), "-o", str(saved)]
    seen: list[Any] = []
    with served(FakeAsr, text="the cat sat town", busy=0, seen=seen) as url:
        assert main(["bench", "--serve", f"{url}/v1", *arguments]) == 0
    table = capsys.readouterr().out
    assert "25.00%" in table
    assert all(name in table for name, *_ in PUBLISHED)
    assert "secret" not in table + saved.read_text()
    assert {(path, headers["Authorization"]) for path, headers, _ in seen} == {
        ("/v1/audio/transcriptions", "Bearer secret")
    }
    assert main(["bench", "--report", str(saved)]) == 0
    assert capsys.readouterr().out == table


@pytest.mark.parametrize(
    "arguments",
    [
        ["--serve", "localhost:8000"],
        ["--serve", "http://x:99999"],
        ["--serve", "http://x", "--routes", "asr"],
        ["--serve", "http://x", "--concurrency", "1,0"],
        ["--serve", "http://x", "--concurrency", "many"],
        ["--serve", "http://x", "--hang-up", "2"],
        ["--serve", "http://x", "--duration", "0"],
        ["--serve", "http://x", "--pid", "999999999"],
    ],
)
def test_an_option_without_meaning_is_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", *arguments]) == 2
    said = capsys.readouterr().err
    assert arguments[-1] in said or arguments[-2] in said


def test_an_address_may_have_a_path_and_end_in_v1() -> None:
    server = parse_server("https://host.example/asr/v1/")
    assert (server.host, server.port, server.prefix, server.tls) == ("host.example", 443, "/asr", True)
    with pytest.raises(OptionsError, match="http://127"):
        parse_server("ftp://host")
