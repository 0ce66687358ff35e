"""What a killed process leaves, the next one clears away; what a live one has, nobody touches."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from qwen3_asr_onnx.bundle.files import Bundle
from qwen3_asr_onnx.bundle.leftovers import clear_leftovers, workplace
from qwen3_asr_onnx.bundle.manifest import MANIFEST_FILE
from qwen3_asr_onnx.bundle.staging import recover_bundle
from qwen3_asr_onnx.bundle.writing import atomic_directory

# One process forks another for every target; in the nth, the nth call that moves something is the last.
DIES = """
import os, signal, sys
from dataclasses import replace
from pathlib import Path
from qwen3_asr_onnx.bundle.files import file_record
from qwen3_asr_onnx.bundle.staging import publish, staging_directory
from qwen3_asr_onnx.bundle.writing import atomic_directory

moment, *targets = sys.argv[1:]

def dying(name, left):
    original = getattr(os, name)
    def call(*arguments, **keywords):
        left[0] -= 1
        if left[0] < 0 and moment == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(*arguments, **keywords)
        if left[0] < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    setattr(os, name, call)

for number, target in enumerate(targets):
    child = os.fork()
    if not child:
        left = [number]
        for name in ("rename", "replace", "unlink", "mkdir"):
            dying(name, left)
        work(Path(target))
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""

DIRECTORY = """
def work(target):
    with atomic_directory(target, overwrite=True) as partial:
        (partial / "new").touch()
"""

VARIANT = """
def work(bundle):
    with staging_directory(bundle, "fp32") as staged:
        (staged / "encoder.onnx").write_bytes(b"new graph")
        (staged / "encoder.new.data").write_bytes(b"new weights")
        graph, weights = file_record(staged / "encoder.onnx"), file_record(staged / "encoder.new.data")

        def changed(manifest):
            # The graph is replaced under its name, a table becomes a new file, its predecessor is nobody's any more.
            files = {**manifest.files, "encoder.onnx": graph, "encoder.new.data": weights}
            files.pop("encoder.data")
            variant = replace(manifest.variants["fp32"], weights=("encoder.new.data", "decoder_weights.data"))
            return replace(manifest, variants={"fp32": variant}, files=files)

        publish(bundle, staged, changed)
"""

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the children kill themselves as POSIX knows it")


def deaths(script: str, moment: str, targets: Sequence[Path]) -> int:
    """Do a piece of work on every target, dying one call later each time; return how many died."""
    command = [sys.executable, "-c", script + DIES, moment, *map(str, targets)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert set(done.stdout.split()) == {"-9", "0"}, done.stderr
    return done.stdout.split().count("-9")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_directory_is_never_lost_and_nothing_stays_behind(tmp_path: Path, moment: str) -> None:
    targets = [tmp_path / str(number) / "bundle" for number in range(14)]
    for target in targets:
        target.mkdir(parents=True)
        (target / "old").touch()
    assert deaths(DIRECTORY, moment, targets) >= 5
    found = set()
    for target in targets:
        with pytest.raises(RuntimeError), atomic_directory(target, overwrite=True):
            raise RuntimeError
        assert names(target.parent) == ["bundle"]
        found.add(tuple(names(target)))
        with atomic_directory(target, overwrite=True) as partial:
            (partial / "newer").touch()
        assert names(target.parent) == ["bundle"]
        assert names(target) == ["newer"]
    assert found == {("old",), ("new",)}


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_variant_is_there_or_not_and_nothing_stays_behind(tiny_bundle: Path, tmp_path: Path, moment: str) -> None:
    before = names(tiny_bundle)
    after = sorted(({*before} - {"encoder.data"}) | {"encoder.new.data"})
    bundles = [Path(shutil.copytree(tiny_bundle, tmp_path / str(number))) for number in range(24)]
    assert deaths(VARIANT, moment, bundles) >= 10
    outcomes = set()
    for bundle in bundles:
        recover_bundle(bundle)
        opened = Bundle.open(bundle)
        assert opened.verify() == []
        is_new = "encoder.new.data" in opened.manifest.files
        assert names(bundle) == (after if is_new else before)
        outcomes.add(is_new)
    assert outcomes == {False, True}


def test_a_live_place_is_left_alone(tmp_path: Path) -> None:
    with workplace(tmp_path, "bundle") as alive, workplace(tmp_path, "other") as other:
        (alive.partial / "a").touch()
        clear_leftovers(tmp_path, "bundle", lambda place: pytest.fail("it lives"))
        clear_leftovers(tmp_path, None, lambda place: pytest.fail("it lives"))
        assert names(alive.partial) == ["a"]
        assert other.partial.is_dir()
    assert names(tmp_path) == []


def test_a_live_place_of_another_process_is_left_alone(tmp_path: Path) -> None:
    script = """
import sys
from collections.abc import Sequence
from pathlib import Path
from qwen3_asr_onnx.bundle.leftovers import workplace
with workplace(Path(sys.argv[1]), "bundle") as place:
    print("there", flush=True)
    sys.stdin.read()
"""
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"there\n"
        clear_leftovers(tmp_path, "bundle", lambda place: pytest.fail("it lives"))
        assert len(names(tmp_path)) == 2
        process.kill()
        process.wait()
    clear_leftovers(tmp_path, "bundle", lambda place: None)
    assert names(tmp_path) == []


def test_what_earlier_versions_left_goes_too(tmp_path: Path) -> None:
    """They had no lock, and other tokens."""
    for name in (".bundle.partial-a1_b2c3d", ".bundle.old-zzzzzzzz", ".bundle2.partial-a1_b2c3d", ".bundle.partial-x"):
        (tmp_path / name).mkdir()
    (tmp_path / ".bundle.old-zzzzzzzz" / "bundle").mkdir()
    (tmp_path / ".bundle.old-zzzzzzzz" / "bundle" / "a").touch()
    with pytest.raises(Exception, match="exists and is not empty"), atomic_directory(tmp_path / "bundle"):
        raise AssertionError
    assert names(tmp_path) == sorted([".bundle.partial-x", ".bundle2.partial-a1_b2c3d", "bundle"])


def test_a_name_is_taken_literally(tmp_path: Path) -> None:
    (tmp_path / ".axb.partial-00000000").mkdir()
    with atomic_directory(tmp_path / "a.b"):
        pass
    assert names(tmp_path) == [".axb.partial-00000000", "a.b"]


def test_no_lock_no_removal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a file system without locks nobody can tell what lives."""

    def no_locks(_: int) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("qwen3_asr_onnx.bundle.leftovers.take_lock", no_locks)
    with workplace(tmp_path, "bundle") as place:
        clear_leftovers(tmp_path, "bundle", lambda place: pytest.fail("it may live"))
        assert place.partial.is_dir()
    assert names(tmp_path) == []


def test_a_bundle_whose_manifest_is_damaged_says_so(bundle_copy: Path) -> None:
    staged = bundle_copy / ".x.partial-00000000"
    (staged / "replaced").mkdir(parents=True)
    (staged / MANIFEST_FILE).write_text(json.dumps({}), encoding="utf-8")
    with pytest.raises(Exception, match=re.escape(str(staged / MANIFEST_FILE))):
        recover_bundle(bundle_copy)
