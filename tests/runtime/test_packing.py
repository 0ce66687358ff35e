"""The program as others pack it: frozen in one folder, as a zip file beside its libraries, in a read-only place."""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import wave
import zipapp
from pathlib import Path

import numpy as np
import pytest
from tests.support.clips import SAMPLE_RATE, synthetic_clip

import qwen3_asr_onnx
from qwen3_asr_onnx._pyinstaller import hook_folders

PACKAGE = Path(qwen3_asr_onnx.__file__).parent
SHARE = 10**6

APP = """
import multiprocessing
import sys

from qwen3_asr_onnx.commands.cli import main

if __name__ == "__main__":
    multiprocessing.freeze_support()
    sys.exit(main())
"""

NOT_OURS = ["IPython", "PIL", "matplotlib", "onnx", "pandas", "pyarrow", "pytest", "scipy", "setuptools", "torch"]
"""What this environment has for the tests, and other people's packages would use if it is there."""


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "clip.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(np.round(synthetic_clip(1.0) * 32_767).astype("<i2").tobytes())
    return path


def heard(command: list[str], bundle: Path, clip: Path, where: Path, path: str = "") -> list[int]:
    """Return the tokens that a program hears, started from another folder and with nothing else to be found."""
    arguments = ["transcribe", "-m", str(bundle), str(clip), "--format", "json", "--language", "English"]
    environment = {"PATH": path, "HOME": str(where), "SYSTEMROOT": os.environ.get("SYSTEMROOT", "")}
    done = subprocess.run(
        [*command, *arguments], capture_output=True, text=True, check=False, cwd=where, env=environment
    )
    assert (done.returncode, done.stderr) == (0, "")
    ids: list[int] = json.loads(done.stdout)["token_ids"]
    return ids


@pytest.fixture(scope="module")
def expected(tiny_bundle: Path, clip: Path, tmp_path_factory: pytest.TempPathFactory) -> list[int]:
    return heard([sys.executable, "-m", "qwen3_asr_onnx"], tiny_bundle, clip, tmp_path_factory.mktemp("home"))


def test_pyinstaller_is_told_where_the_hook_is() -> None:
    (folder,) = hook_folders()
    assert [path.name for path in Path(folder).glob("*.py")] == ["hook-qwen3_asr_onnx.py"]
    points = importlib.metadata.entry_points(group="pyinstaller40")
    assert "qwen3_asr_onnx._pyinstaller:hook_folders" in [point.value for point in points]


def test_a_zip_file_with_its_libraries_beside_it(
    tiny_bundle: Path, clip: Path, expected: list[int], tmp_path: Path
) -> None:
    source = tmp_path / "source"
    shutil.copytree(PACKAGE, source / "qwen3_asr_onnx", ignore=shutil.ignore_patterns("__pycache__"))
    libraries = str(Path(np.__file__).parents[1])
    (source / "__main__.py").write_text(
        f"import sys\nsys.path.append({libraries!r})\nfrom qwen3_asr_onnx.commands.cli import main\nsys.exit(main())\n",
        encoding="utf-8",
    )
    zipapp.create_archive(source, tmp_path / "asr.pyz")
    shutil.rmtree(source)
    command = [sys.executable, "-S", str(tmp_path / "asr.pyz")]
    assert heard(command, tiny_bundle, clip, tmp_path) == expected
    korean = (
        "import sys; sys.path[:0] = sys.argv[1:]; from qwen3_asr_onnx.alignment.units import segment_words as words; "
    )
    korean += "print(words('집에', 'Korean'))"
    done = subprocess.run(
        [sys.executable, "-S", "-c", korean, str(tmp_path / "asr.pyz"), libraries],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
    )
    assert "집" in done.stdout  # its table is read out of the zip file


def test_a_package_in_a_place_that_cannot_be_written(
    tiny_bundle: Path, clip: Path, expected: list[int], tmp_path: Path
) -> None:
    place = tmp_path / "place"
    shutil.copytree(PACKAGE, place / "qwen3_asr_onnx", ignore=shutil.ignore_patterns("__pycache__"))
    folders = [place, *(path for path in place.rglob("*") if path.is_dir())]
    before = sorted(place.rglob("*"))
    for folder in folders:
        folder.chmod(0o555)
    code = (
        f"import sys; sys.path.insert(0, {str(place)!r}); sys.dont_write_bytecode = True; import qwen3_asr_onnx as q; "
    )
    code += f"assert q.__file__.startswith({str(place)!r}); import qwen3_asr_onnx.__main__"
    try:
        assert heard([sys.executable, "-c", code], tiny_bundle, clip, tmp_path) == expected
        assert sorted(place.rglob("*")) == before
    finally:
        for folder in folders:
            folder.chmod(0o755)


@pytest.mark.conformance
@pytest.mark.slow  # PyInstaller looks at every module of numpy and onnxruntime: minutes
def test_a_frozen_app_transcribes_and_works_for_others(
    tiny_bundle: Path, clip: Path, expected: list[int], tmp_path: Path
) -> None:
    pytest.importorskip("PyInstaller", reason="needs PyInstaller")
    (tmp_path / "app.py").write_text(APP, encoding="utf-8")
    excluded = [word for name in NOT_OURS for word in ("--exclude-module", name)]
    build = [sys.executable, "-m", "PyInstaller", "--noconfirm", "--onedir", "--name", "asr", *excluded, "app.py"]
    subprocess.run(build, capture_output=True, check=True, cwd=tmp_path)
    app = tmp_path / "elsewhere" / "asr"
    shutil.copytree(tmp_path / "dist" / "asr", app, symlinks=True)
    shutil.rmtree(tmp_path / "dist")
    shutil.rmtree(tmp_path / "build")
    program = str(app / ("asr.exe" if sys.platform == "win32" else "asr"))
    home = tmp_path / "home"
    home.mkdir()
    assert heard([program], tiny_bundle, clip, home) == expected
    assert subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    request = {"id": 1, "method": "transcribe", "params": {"audio": str(clip), "language": "English"}}
    worker = subprocess.run(
        [program, "worker", "-m", str(tiny_bundle)],
        input=json.dumps(request) + "\n",
        capture_output=True,
        text=True,
        check=True,
        cwd=home,
        env={"PATH": "", "HOME": str(home)},
    )
    assert "result" in json.loads(worker.stdout.splitlines()[-1])
    size = sum(path.stat().st_size for path in app.rglob("*") if path.is_file() and not path.is_symlink())
    assert size < 200 * SHARE  # libraries alone; torch and its kind would be gigabytes
