"""The container's recipe: what it copies, installs, runs and asks is there; built and run where a daemon is."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from tests.support.local_server import served

from qwen3_asr_onnx.commands import cli

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "examples" / "container"
STAGES = ("build", "slim", "ffmpeg", "")


def instructions() -> Iterator[tuple[str, str, str]]:
    """Yield (stage, instruction, arguments) of the Dockerfile; what is before the first stage is of stage "-"."""
    text = re.sub(r"\\\n\s*", "", re.sub(r"(?m)^#.*\n", "", (FOLDER / "Dockerfile").read_text(encoding="utf-8")))
    stage = "-"
    for line in filter(None, text.splitlines()):
        word, _, rest = line.partition(" ")
        if word == "FROM":
            stage = rest.partition(" AS ")[2]
        yield stage, word, rest.strip()


def those(stage: str, word: str) -> list[str]:
    return [rest for where, name, rest in instructions() if (where, name) == (stage, word)]


def test_the_stages_are_a_build_and_two_images_of_which_the_small_one_is_made_by_default() -> None:
    assert tuple(dict.fromkeys(where for where, _, _ in instructions() if where != "-")) == STAGES
    assert those("", "FROM") == ["slim"]


def test_what_is_copied_is_there_and_let_through() -> None:
    let_through = (FOLDER / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    assert let_through[0] == "*"
    copied = [source for rest in those("build", "COPY") for source in shlex.split(rest)[:-1]]
    assert copied
    for source in copied:
        assert (ROOT / source).exists(), source
        assert f"!{source}" in let_through
    # The wheel is made of the folders that pyproject names, its README and its license.
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    packages = re.findall(r'^    "(\w+)/qwen3_asr_onnx\w*",$', project, re.MULTILINE)
    assert {*packages, "pyproject.toml", "README.md", "LICENSE"} == set(copied)


def test_its_extras_are_extras_of_the_package() -> None:
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    defaults = dict(rest.split("=", 1) for rest in those("build", "ARG"))
    for extra in (defaults["ONNXRUNTIME"], "gpu", "get", *defaults["EXTRAS"].split(",")):
        assert re.search(rf"(?m)^{re.escape(extra)} = \[", project), extra


@pytest.mark.parametrize("stage", ["slim", "ffmpeg"])
def test_no_image_ends_as_root(stage: str) -> None:
    uid, _, gid = those(stage, "USER")[-1].partition(":")
    assert int(uid) > 0
    assert int(gid) > 0


def test_what_it_runs_is_a_command_line_of_ours() -> None:
    (entry,), (command,) = (map(json.loads, those("slim", word)) for word in ("ENTRYPOINT", "CMD"))
    assert entry == ["qwen3-asr-onnx"]
    if command[0] not in cli.BUILT_IN:
        pytest.skip("serve is not in this tree")
    args = cli.parse_args(command)
    assert (args.host, args.port) == ("0.0.0.0", int(those("slim", "EXPOSE")[0]))


@pytest.mark.parametrize(("status", "healthy"), [(200, True), (503, False)])
def test_the_health_check_runs_and_tells_good_from_bad(status: int, healthy: bool) -> None:
    (rest,) = those("slim", "HEALTHCHECK")
    _, dash_c, code = json.loads(rest.partition("CMD ")[2])
    assert dash_c == "-c"
    assert f":{those('slim', 'EXPOSE')[0]}/health" in code

    class Health(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/health" else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Keep the tests' output clean."""

    with served(Health) as url:
        here = code.replace("http://127.0.0.1:8000", url)
        done = subprocess.run([sys.executable, "-c", here], capture_output=True, check=False, timeout=30)
    assert (done.returncode == 0) == healthy


@pytest.mark.conformance
@pytest.mark.slow
@pytest.mark.program("docker")
def test_it_builds_and_runs_read_only() -> None:
    if subprocess.run(["docker", "info"], capture_output=True, check=False, timeout=30).returncode:
        pytest.skip("docker has no daemon to talk to")
    build = ["docker", "build", "-q", "-f", str(FOLDER / "Dockerfile"), str(ROOT)]
    image = subprocess.run(build, capture_output=True, check=True, text=True, timeout=1800).stdout.strip()
    run = ["docker", "run", "--rm", "--read-only", "--tmpfs", "/tmp", image, "models"]
    done = subprocess.run(run, capture_output=True, check=False, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
