"""Optional programs are looked for in one place, and can be hidden there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.support import programs

TESTS = Path(__file__).parent
PROBES = re.compile(r"shutil\.which|find_library|CDLL|_find_ffmpeg\(\)|(?:is|are) not installed")
"""How a test asks by itself what this machine has."""


def test_no_test_looks_for_a_program_itself() -> None:
    ours = {Path(programs.__file__), Path(__file__)}
    sources = [path for path in TESTS.rglob("*.py") if "data" not in path.parts and path not in ours]
    assert [path.name for path in sources if PROBES.search(path.read_text(encoding="utf-8"))] == []


@pytest.mark.parametrize("name", programs.PROGRAMS)
def test_a_hidden_program_is_missing_and_the_reason_says_what_to_install(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(programs.HIDDEN, "1")
    assert programs.find(name) is None
    why = programs.why_missing.__wrapped__(name)
    assert why == f"needs {name}: {programs.PROGRAMS[name].install}"


def test_what_is_found_is_among_the_files_that_are_covered() -> None:
    covered = programs.installed_files()
    found = [path for name in programs.PROGRAMS if (path := programs.find(name))]
    assert {Path(path).resolve() for path in found} <= set(covered)


def test_tests_that_need_a_missing_program_are_skipped(request: pytest.FixtureRequest) -> None:
    for item in request.session.items:
        missing = {programs.why_missing(marker.args[0]) for marker in item.iter_markers("program")} - {None}
        assert missing <= {marker.kwargs["reason"] for marker in item.iter_markers("skip")}
