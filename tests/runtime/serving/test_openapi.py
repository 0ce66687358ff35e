"""docs/openapi.json says what the routes are, and schemathesis sends what it allows, and what it does not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from qwen3_asr_onnx.serving.app import make_app
from qwen3_asr_onnx.serving.fields import FORMATS

from .conftest import FakeEngine, make_state, running

DOCUMENT = json.loads((Path(__file__).parents[3] / "docs" / "openapi.json").read_text(encoding="utf-8"))


def test_it_names_every_route_and_no_other(engine: FakeEngine) -> None:
    routes: set[tuple[str, str]] = set()
    for route in make_app(make_state(engine)).routes:
        path = route.path.replace(":path}", "}")  # type: ignore[attr-defined]
        methods = route.methods or ()  # type: ignore[attr-defined]
        routes |= {(path, method.lower()) for method in methods if method != "HEAD"}
    assert routes == {(path, method) for path, methods in DOCUMENT["paths"].items() for method in methods}
    fields = DOCUMENT["components"]["schemas"]["Transcription"]["properties"]
    assert tuple(fields["response_format"]["enum"]) == FORMATS


@pytest.mark.conformance
@pytest.mark.parametrize("path", DOCUMENT["paths"])
def test_schemathesis_finds_no_reply_that_is_not_in_it(engine: FakeEngine, path: str) -> None:
    schemathesis = pytest.importorskip("schemathesis")
    from hypothesis import HealthCheck, Phase, given, settings
    from schemathesis import checks

    checks.load_all_checks()
    kinds = ("status_code", "content_type", "response_schema", "response_headers")
    chosen = [
        checks.CHECKS.get_one(name) for name in ("not_a_server_error", *(f"{kind}_conformance" for kind in kinds))
    ]
    with running(engine) as address:
        schema = schemathesis.openapi.from_dict(DOCUMENT)
        schema.config.update(base_url=address)
        (operation,) = [one.ok() for one in schema.get_all_operations() if one.ok().path == path]
        modes = schemathesis.GenerationMode
        for mode in (modes.POSITIVE, modes.NEGATIVE) if operation.body else (modes.POSITIVE,):

            @given(case=operation.as_strategy(generation_mode=mode))
            @settings(
                max_examples=40,
                deadline=None,
                suppress_health_check=list(HealthCheck),
                phases=[Phase.generate],
                database=None,
            )
            def check(case: Any) -> None:
                case.call_and_validate(checks=chosen)

            check()
