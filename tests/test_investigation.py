"""The log's index: every entry once, newest first, with a link that leads to it."""

from __future__ import annotations

import re
from pathlib import Path

LOG = (Path(__file__).parents[1] / "INVESTIGATION.md").read_text(encoding="utf-8")
STATES = {"open", "done", "negative", "void"}


def anchor(heading: str) -> str:
    """Return what a heading is called in links: as GitHub and other renderers of Markdown make it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def test_the_index_names_every_entry_once_and_leads_to_it() -> None:
    headings = {heading[1:4]: anchor(heading) for heading in re.findall(r"^## (\[\d{3}\] .*)$", LOG, re.MULTILINE)}
    rows = re.findall(r"^\| (?:\[(\d{3})\]\(#(\S+)\)|(\d{3})) \|.*\| (\w+) \|$", LOG, re.MULTILINE)
    ids = [linked or void for linked, _, void, _ in rows]
    assert ids == sorted(set(ids), reverse=True)
    assert int(ids[0]) == len(ids)
    assert {state for *_, state in rows} <= STATES
    assert {linked: target for linked, target, _, _ in rows if linked} == headings
    assert {void for _, _, void, state in rows if state == "void"} == set(ids) - set(headings)
