"""The library inside somebody else's program: it changes nothing there, leaves nothing behind, and never hangs it."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from tests.support.clips import synthetic_clip

from qwen3_asr_onnx import AsyncTranscriber, Transcriber

CLIP = synthetic_clip(1.0)
SHORT: dict[str, Any] = {"max_new_tokens": 4, "language": "English"}

NEEDS_FORK = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")

CHANGES_NOTHING = """
import json, logging, os, signal, sys, threading
def state():
    mask = os.umask(0o22); os.umask(mask)
    handlers = {number: repr(signal.getsignal(number)) for number in signal.valid_signals()}
    loggers = {name: [len(one.handlers), one.level] for name, one in logging.Logger.manager.loggerDict.items()
               if isinstance(one, logging.Logger) and one.handlers and name.split(".")[0] != "qwen3_asr_onnx"}
    root = [len(logging.root.handlers), logging.root.level]
    hooks = [repr(sys.excepthook), repr(threading.excepthook), repr(sys.stdout), repr(sys.stderr)]
    return [mask, handlers, dict(os.environ), loggers, root, hooks, os.getcwd()]
import numpy, tokenizers
before = state()
import asyncio
from qwen3_asr_onnx import AsyncTranscriber, Transcriber
clip = numpy.zeros(16000, dtype=numpy.float32)
with Transcriber(sys.argv[1], threads=2) as asr:
    asr.transcribe(clip, max_new_tokens=2, language="English")
async def live():
    async with AsyncTranscriber(sys.argv[1], threads=2) as engine:
        await engine.transcribe(clip, max_new_tokens=2, language="English")
asyncio.run(live())
after = state()
print(json.dumps([before, after, threading.active_count()]))
"""


def test_the_program_around_it_is_as_it_was(tiny_bundle: Path, tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    command = [sys.executable, "-W", "error", "-c", CHANGES_NOTHING, str(tiny_bundle)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path, env=environment)
    before, after, n_threads = json.loads(done.stdout)
    assert after[2].pop("ORT_DISABLE_TELEMETRY") == "1"  # the one change: docs/embedding.md
    assert after == before
    assert n_threads == 1
    assert done.stderr == ""


def threads_of_the_system() -> int:
    return len(list(Path("/proc/self/task").iterdir()))


def threads_come_down_to(n_threads: int) -> bool:
    """Return whether so many are left; a thread that was waited for still has a moment to its end."""
    end_s = time.monotonic() + 10.0
    while threads_of_the_system() != n_threads and time.monotonic() < end_s:
        time.sleep(0.01)
    return threads_of_the_system() == n_threads


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="counts threads as Linux does")
def test_no_thread_is_left_behind_close(tiny_bundle: Path) -> None:
    Transcriber(tiny_bundle, threads=3).close()  # what is made once in a process is made now
    before = threads_of_the_system()
    asr = Transcriber(tiny_bundle, threads=3)
    asr.transcribe(CLIP, **SHORT)
    assert threads_of_the_system() > before
    asr.close()
    del asr
    assert threads_come_down_to(before)

    async def live() -> None:
        async with AsyncTranscriber(tiny_bundle, threads=3) as engine:
            await engine.transcribe(CLIP, **SHORT)

    asyncio.run(live())
    assert threads_come_down_to(before)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="counts threads as Linux does")
def test_the_limit_of_threads_holds(tiny_bundle: Path) -> None:
    Transcriber(tiny_bundle, threads=1).close()
    for threads, n_more in ((1, 0), (3, 4)):  # two sessions here, each with the calling thread and two of its own
        before = threads_of_the_system()
        with Transcriber(tiny_bundle, threads=threads) as asr:
            asr.transcribe(CLIP, **SHORT)
            assert threads_come_down_to(before + n_more)
        assert threads_come_down_to(before)


FORKED = """
import os, sys
import numpy
from qwen3_asr_onnx import AsyncTranscriber, Qwen3AsrError, Transcriber
asr = Transcriber(sys.argv[1], threads=int(sys.argv[2]))
how = sys.argv[3]
clip = numpy.zeros(16000, dtype=numpy.float32)
def hear():
    return asr.transcribe(clip, max_new_tokens=2, language="English").text
told = hear()
engine = AsyncTranscriber(asr) if how == "engine" else None
child = os.fork()
if child:
    _, status = os.waitpid(child, 0)
    assert hear() == told  # the parent goes on
    print(os.waitstatus_to_exitcode(status), flush=True)
    os._exit(0)
if how == "hear":
    try:
        print("same" if hear() == told else "other", end=" ", flush=True)
    except Qwen3AsrError as error:
        print(error, end=" ", flush=True)
elif how == "engine":
    import asyncio
    try:
        asyncio.run(engine.transcribe(clip))
    except Qwen3AsrError as error:
        print(error, end=" ", flush=True)
    os._exit(0)
elif how == "close":
    asr.close()
elif how == "anew":
    asr = Transcriber(sys.argv[1], threads=2)
    print("same" if hear() == told else "other", end=" ", flush=True)
sys.exit(0)  # the interpreter's own end, which frees everything
"""


@NEEDS_FORK
@pytest.mark.parametrize(
    ("how", "threads", "said"),
    [
        ("hear", 1, "same"),
        ("hear", 2, "this model was loaded before the process was forked"),
        ("engine", 1, "this model was loaded before the process was forked"),
        ("close", 2, ""),
        ("exit", 2, ""),
        ("anew", 2, "same"),
    ],
)
def test_a_forked_process_is_served_or_told_and_ends(how: str, threads: int, said: str, tiny_bundle: Path) -> None:
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORKED, str(tiny_bundle), str(threads), how]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.stderr == ""
    assert done.stdout.startswith(said)
    assert done.stdout.endswith("0\n")


def hear_in_a_process(bundle: Path) -> str:
    with Transcriber(bundle, threads=1) as asr:
        return asr.transcribe(CLIP, **SHORT).text


def test_spawned_processes_hear_the_same(tiny_bundle: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.map(hear_in_a_process, [tiny_bundle]) == [hear_in_a_process(tiny_bundle)]


def test_another_thread_than_the_main_one_may_do_everything(tiny_bundle: Path) -> None:
    found: list[str] = []

    def work() -> None:
        found.append(hear_in_a_process(tiny_bundle))

        async def live() -> str:
            async with AsyncTranscriber(tiny_bundle, threads=1) as engine:
                return (await engine.transcribe(CLIP, **SHORT)).text

        found.append(asyncio.run(live()))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [hear_in_a_process(tiny_bundle)] * 2


@pytest.mark.conformance
def test_a_thread_of_qt_hears_and_the_window_stays_alive(tiny_bundle: Path) -> None:
    core: Any = pytest.importorskip("PySide6.QtCore", reason="needs PySide6")
    found: list[str] = []

    def run(_: object) -> None:
        found.append(hear_in_a_process(tiny_bundle))

    worker = type("Worker", (core.QThread,), {"run": run})()
    app = core.QCoreApplication([])
    ticks: list[float] = []
    timer = core.QTimer()
    timer.timeout.connect(lambda: ticks.append(time.monotonic()))
    timer.start(1)
    worker.finished.connect(app.quit)
    worker.start()
    app.exec()
    worker.wait()
    assert found == [hear_in_a_process(tiny_bundle)]
    assert len(ticks) > 1


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs signals")
def test_signals_of_the_program_arrive_while_it_hears(tiny_bundle: Path) -> None:
    arrived: list[int] = []
    before = signal.signal(signal.SIGALRM, lambda number, frame: arrived.append(number))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
        hear_in_a_process(tiny_bundle)
        signal.setitimer(signal.ITIMER_REAL, 0)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert arrived


def mapped_bytes(*endings: str) -> int:
    """Return the bytes of this process's mappings of files, by how their names end."""
    total = 0
    for line in Path("/proc/self/maps").read_text(encoding="utf-8").splitlines():
        if line.endswith(endings):
            first, last = (int(place, 16) for place in line.split()[0].split("-"))
            total += last - first
    return total


def test_memory_counts_weights_by_whose_pages_they_are(tiny_bundle: Path, store: Path) -> None:
    from qwen3_asr_onnx.model.loading import fetch_prepared

    def size(name: str) -> int:
        return (tiny_bundle / name).stat().st_size

    with Transcriber(tiny_bundle, threads=1) as asr:
        cold = asr.memory()
    assert cold.embeddings_mapped == size("embed_tokens.bin")
    for counted, name in ((cold.weights_private, "encoder.data"), (cold.weights_mapped, "decoder_weights.data")):
        assert 0.5 * size(name) < counted <= size(name)  # so small a model has much padding between its weights
    fetch_prepared(tiny_bundle, None)
    on_linux = Path("/proc/self/maps").exists()
    before = mapped_bytes("weights.bin") if on_linux else 0
    with Transcriber(tiny_bundle, threads=1) as asr:
        warm = asr.memory()
        mapped = mapped_bytes("weights.bin") - before if on_linux else 0
    assert warm.weights_private == 0
    prepared = warm.weights_mapped - cold.weights_mapped
    assert prepared == pytest.approx(cold.weights_private, rel=0.6)
    if on_linux:
        assert prepared <= mapped <= prepared + 100 * 4096  # each weight is a mapping of whole pages
