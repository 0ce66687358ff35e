"""A worker as a process of its own: what it writes where, what it takes of the machine, and when it ends."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.clips import synthetic_clip
from tests.support.worker_client import LONG, SHORT, Client, refused

from qwen3_asr_onnx.worker.faults import PARSE_ERROR, TOO_MUCH
from qwen3_asr_onnx.worker.host import Choice, Host
from qwen3_asr_onnx.worker.session import Session

COMMAND = [sys.executable, "-m", "qwen3_asr_onnx", "worker"]

SOON_S = 10.0
"""An end that is a matter of tenths of a second, on a machine that is busy with other tests."""


@contextlib.contextmanager
def started(*arguments: str, **options: object) -> Iterator[tuple[subprocess.Popen[bytes], Client]]:
    process = subprocess.Popen([*COMMAND, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, **options)  # type: ignore[call-overload]
    assert process.stdin is not None
    assert process.stdout is not None
    client = Client(process.stdin, process.stdout)
    try:
        with process:
            yield process, client
    finally:
        process.kill()
        client.join()


def test_its_stdout_is_kept_to_the_protocol_and_it_ends_with_its_input(tiny_bundle: Path) -> None:
    """What a library prints goes to stderr; the model that the command line names is loaded at once."""
    script = (
        "import sys, os\n"
        "from qwen3_asr_onnx.worker import session\n"
        "old = session.Session._hello\n"
        "async def loud(self, *args):\n"
        "    os.write(1, b'noise of a library\\n'); print('more of it'); os.system('echo of a child')\n"
        "    return await old(self, *args)\n"
        "session.Session._hello = loud\n"
        "from qwen3_asr_onnx.commands.cli import main\n"
        f"sys.exit(main(['worker', '-m', {str(tiny_bundle)!r}, '--max-memory-mb', '4000']))\n"
    )
    body = b'{"id": 1, "method": "hello"}\n{"id": 2, "method": "transcribe", "payload_length": 64000, "params": %s}\n'
    params = json.dumps({"format": "f32le", **SHORT}).encode()
    done = subprocess.run(
        [sys.executable, "-c", script],
        input=body % params + synthetic_clip(1.0).tobytes(),
        capture_output=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert {one["id"] for one in answers if "method" not in one} == {1, 2}
    assert all("error" not in one for one in answers)
    for noise in (b"noise of a library", b"more of it", b"of a child"):
        assert noise in done.stderr


def test_a_model_that_cannot_be_loaded_is_told_by_the_exit_status(tmp_path: Path) -> None:
    done = subprocess.run([*COMMAND, "-m", str(tmp_path / "none")], input=b"", capture_output=True, timeout=60)
    assert done.returncode == 2
    assert b"none" in done.stderr
    assert not done.stdout


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_a_line_and_a_payload_beyond_the_limits_take_no_memory_and_shutdown_ends_it() -> None:
    megabyte = b"x" * (1 << 20)
    with started("--no-model") as (process, client):
        client.ask("hello")
        before = peak_mb(process.pid)
        for _ in range(150):
            client.raw(megabyte)
        client.raw(b"\n")
        refused(client.answer(None)["error"], PARSE_ERROR)
        client.raw(b'{"id": "big", "method": "transcribe", "payload_length": %d}\n' % (600 << 20))
        for _ in range(600):
            client.raw(megabyte)
        refused(client.answer("big")["error"], TOO_MUCH)
        assert peak_mb(process.pid) - before < 30
        assert client.ask("shutdown") == {}
        assert process.wait(SOON_S) == 0  # although its input is open


@pytest.mark.skipif(sys.platform != "linux", reason="memory can be limited on Linux alone")
def test_what_goes_beyond_the_memory_that_it_may_take_is_refused_and_it_goes_on(tiny_bundle: Path) -> None:
    size = 500 << 20
    with started("-m", str(tiny_bundle), "--max-memory-mb", "400", stderr=subprocess.PIPE) as (process, client):
        client.ask("transcribe", 1, synthetic_clip(1.0).tobytes(), format="f32le", **SHORT)
        client.raw(b'{"id": 2, "method": "transcribe", "payload_length": %d}\n' % size)
        for _ in range(500):
            client.raw(bytes(1 << 20))
        refused(client.answer(2)["error"], TOO_MUCH)
        assert "text" in client.ask("transcribe", 3, synthetic_clip(1.0).tobytes(), format="f32le", **SHORT)
        client.end()
        assert process.wait(SOON_S) == 0


def peak_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def work(seconds: float = 300.0) -> bytes:
    """Return a request that takes minutes, and is never answered: nothing is written that could break."""
    clip = synthetic_clip(3.0).tobytes() * round(seconds / 3)
    params = json.dumps({"format": "f32le", **LONG})
    return b'{"method": "transcribe", "payload_length": %d, "params": %s}\n' % (len(clip), params.encode()) + clip


@pytest.mark.skipif(os.name != "posix", reason="Windows tells whoever writes that nobody reads, and nobody else")
def test_a_reader_that_goes_away_while_nothing_is_written_ends_it(tiny_bundle: Path) -> None:
    with subprocess.Popen([*COMMAND, "-m", str(tiny_bundle)], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b'{"id": 1, "method": "models"}\n' + work())
        process.stdin.flush()
        assert process.stdout.readline()
        process.stdout.close()
        assert process.wait(SOON_S) == 0  # although its input is open


@pytest.mark.skipif(os.name != "posix", reason="as above")
def test_a_parent_that_dies_in_the_middle_of_decoding_ends_it(tiny_bundle: Path, tmp_path: Path) -> None:
    """Its input ends too then, which alone would let what was accepted finish."""
    (tmp_path / "work").write_bytes(work())
    parent = (
        "import subprocess, sys, time\n"
        f"child = subprocess.Popen({[*COMMAND, '-m', str(tiny_bundle)]!r}, stdin=-1, stdout=-1)\n"
        f"child.stdin.write(open({str(tmp_path / 'work')!r}, 'rb').read())\n"
        'child.stdin.write(b\'{"id": 1, "method": "hello"}\\n\'); child.stdin.flush()\n'
        "child.stdout.readline(); print('under way', flush=True); time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"under way\n"
        time.sleep(0.3)  # in the middle
        process.send_signal(signal.SIGKILL)
        began = time.monotonic()
        assert process.stderr.read() == b""  # the worker has it too: its end is the worker's
        assert time.monotonic() - began < SOON_S


@pytest.mark.skipif(os.name != "posix", reason="as above")
@pytest.mark.parametrize("end", ["shutdown", "gone"])
def test_a_load_that_takes_long_keeps_nobody(end: str) -> None:
    """It cannot be stopped, and may be a download."""
    script = (
        "import sys, time\n"
        "from qwen3_asr_onnx.worker.host import Host\n"
        "Host._load = lambda self, choice: time.sleep(100)\n"
        "from qwen3_asr_onnx.commands.cli import main\n"
        "sys.exit(main(['worker']))\n"
    )
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b'{"id": 1, "method": "hello"}\n')
        process.stdin.flush()
        assert process.stdout.readline()
        if end == "shutdown":
            process.stdin.write(b'{"id": 2, "method": "shutdown"}\n')
            process.stdin.flush()
        else:
            process.stdin.close()
            process.stdout.close()
        assert process.wait(SOON_S) == 0


def test_a_reader_that_goes_away_cancels(tiny_bundle: Path) -> None:
    async def main() -> float:
        there, to_worker = os.pipe()
        here, to_client = os.pipe()
        host = Host()
        await host.load(Choice(str(tiny_bundle)))
        with (
            os.fdopen(there, "rb") as stream_in,
            os.fdopen(to_client, "wb", 0) as out,
            os.fdopen(to_worker, "wb") as sink,
        ):
            session = Session(host, stream_in, out)
            running = asyncio.create_task(session.run())
            clip = synthetic_clip(3.0).tobytes() * 100
            head = json.dumps(
                {"id": 1, "method": "transcribe", "params": {"format": "f32le", **LONG}, "payload_length": len(clip)}
            )
            await asyncio.to_thread(sink.write, head.encode() + b"\n" + clip)
            await asyncio.to_thread(sink.flush)
            os.close(here)
            started = time.monotonic()
            sink.write(b'{"id": 2, "method": "hello"}\n')
            sink.flush()
            await asyncio.wait_for(running, 30)
        await host.close()
        return time.monotonic() - started

    assert asyncio.run(main()) < 30
