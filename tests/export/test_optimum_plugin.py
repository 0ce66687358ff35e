"""`optimum-cli export qwen3-asr-onnx`: the command beside the real optimum; our own wheel has no part in it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from tests.conftest import DATA

from qwen3_asr_onnx import Bundle

ROOT = Path(__file__).parents[2]
PLUGIN = ROOT / "export" / "optimum-plugin"


def test_the_plugin_is_a_distribution_of_its_own() -> None:
    ours, theirs = ((folder / "pyproject.toml").read_text(encoding="utf-8") for folder in (ROOT, PLUGIN))
    packages = ours.partition("[tool.hatch.build.targets.wheel]")[2].partition("]")[0]
    assert "qwen3_asr_onnx_export" in packages
    assert "optimum" not in packages
    assert re.findall(r"^version = .*$", theirs, re.MULTILINE) == re.findall(r"^version = .*$", ours, re.MULTILINE)
    assert 'dependencies = ["optimum>=2.1", "qwen3-asr-onnx[export]"]' in theirs
    assert not list(PLUGIN.rglob("__init__.py")), "optimum's packages are namespaces"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the real optimum and the plugin, as wheels put them there."""
    folder = tmp_path_factory.mktemp("optimum")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    for what in ("optimum>=2.1", str(PLUGIN)):
        wheels = folder / f"wheels-{len(what)}"
        subprocess.run([*pip, "wheel", "-q", "--no-deps", "-w", str(wheels), what], check=True, timeout=300)
        (wheel,) = wheels.glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder / "site")
    return folder / "site"


def optimum_cli(site: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from optimum.commands.optimum_cli import main; main()", *arguments],
        env={**os.environ, "PYTHONPATH": str(site), "COLUMNS": "120"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


@pytest.mark.conformance
def test_optimum_knows_the_command(installed: Path) -> None:
    told = optimum_cli(installed, "export", "--help")
    assert told.returncode == 0, told.stderr
    assert "qwen3-asr-onnx" in told.stdout
    told = optimum_cli(installed, "export", "qwen3-asr-onnx", "--help")
    assert told.returncode == 0, told.stderr
    assert "--layout" in told.stdout


@pytest.mark.conformance
def test_it_exports_and_fails_as_the_verb_does(installed: Path, tmp_path: Path) -> None:
    done = optimum_cli(
        installed, "export", "qwen3-asr-onnx", "-m", str(DATA / "mini-asr"), str(tmp_path / "bundle"), "--no-check"
    )
    assert done.returncode == 0, done.stderr
    assert Bundle.open(tmp_path / "bundle").verify() == []
    failed = optimum_cli(installed, "export", "qwen3-asr-onnx", "-m", str(tmp_path / "none"), str(tmp_path / "other"))
    assert failed.returncode == 2
    assert "Traceback" not in failed.stderr
    assert "none" in failed.stderr
    assert not (tmp_path / "other").exists()
