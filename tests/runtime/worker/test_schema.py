"""docs/worker.schema.json says what the worker takes and gives, no more and no less; docs/worker.md keeps to it.

That every line that goes over the wire in the other tests keeps to it is seen to by `tests.support.worker_client`.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from typing import Any, get_args, get_type_hints

import pytest
from tests.support.worker_client import SCHEMA, problem, schema_body

from qwen3_asr_onnx.audio.raw_pcm import PCM_FORMATS
from qwen3_asr_onnx.model.session import DEVICES
from qwen3_asr_onnx.options import Split, Timestamps
from qwen3_asr_onnx.results import Phrase, Segment, StopReason, Timings, Transcript, Word, WordFlag
from qwen3_asr_onnx.stream.stream import POLICIES
from qwen3_asr_onnx.stream.updates import StreamUpdate
from qwen3_asr_onnx.worker import faults
from qwen3_asr_onnx.worker.params import VERBS
from qwen3_asr_onnx.worker.wire import MAX_PAYLOAD_BYTES

jsonschema = pytest.importorskip("jsonschema")
if not SCHEMA.is_file():
    pytest.skip("docs/ is not here", allow_module_level=True)

TYPES = {str: "string", int: "integer", float: "number", bool: "boolean"}


@pytest.fixture(scope="module")
def defs() -> dict[str, Any]:
    found: dict[str, Any] = schema_body()["$defs"]
    return found


def test_it_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(schema_body())


def test_every_line_of_the_page_keeps_to_it() -> None:
    text = SCHEMA.with_name("worker.md").read_text(encoding="utf-8")
    lines = [(line[0], json.loads(line[2:])) for line in text.splitlines() if re.match(r"[<>] \{", line)]
    assert len(lines) > 10
    said = {body["id"]: body["method"] for way, body in lines if way == ">"}
    for way, body in lines:
        if way == ">":
            assert problem("request", body) is None
            continue
        assert problem("event" if "method" in body else "answer", body) is None
        if "result" in body:
            assert problem(f"{said[body['id']]}.result", body["result"]) is None


def test_its_verbs_and_parameters_are_those_that_the_worker_takes(defs: Mapping[str, Any]) -> None:
    assert set(defs["request"]["properties"]["method"]["enum"]) == set(VERBS)
    for verb, params in VERBS.items():
        found = defs.get(f"{verb}.params", defs["no.params"])
        found = defs[found["$ref"].rpartition("/")[2]] if "$ref" in found else found
        assert set(found.get("properties", {})) == set(params), verb
        assert set(found.get("required", [])) == {name for name, param in params.items() if param.required}, verb
        for name, schema in found.get("properties", {}).items():
            assert _types(schema, defs) <= {TYPES[kind] for kind in params[name].types}, (verb, name)
    assert defs["request"]["properties"]["payload_length"]["maximum"] == MAX_PAYLOAD_BYTES


def _types(schema: Mapping[str, Any], defs: Mapping[str, Any]) -> set[str]:
    """Return the JSON types of a value."""
    if "$ref" in schema:
        return _types(defs[schema["$ref"].rpartition("/")[2]], defs)
    if "anyOf" in schema:
        return set().union(*(_types(one, defs) for one in schema["anyOf"]))
    if "enum" in schema or "const" in schema:
        return {TYPES[type(value)] for value in schema.get("enum", [schema.get("const")])}
    kinds = schema["type"]
    return {kinds} if isinstance(kinds, str) else set(kinds)


def test_its_words_are_those_that_the_library_knows(defs: Mapping[str, Any]) -> None:
    transcribe, stream = defs["transcribe.params"]["properties"], defs["stream.open.params"]["properties"]
    for schema, known in (
        (defs["format"], PCM_FORMATS),
        (defs["split"], get_args(Split)),
        (transcribe["timestamps"], get_args(Timestamps)),
        (stream["policy"], POLICIES),
        (defs["load.params"]["properties"]["device"], DEVICES),
        (defs["stop_reason"], get_args(StopReason)),
        (defs["word_members"]["properties"]["flags"]["items"], get_args(WordFlag)),
    ):
        assert set(schema["enum"]) == set(known)
    codes = [value for name, value in vars(faults).items() if name.isupper() and isinstance(value, int)]
    assert set(defs["error"]["properties"]["code"]["enum"]) == set(codes)


@pytest.mark.parametrize(
    ("kind", "names", "more"),
    [
        (Timings, ["timings"], {"tokens_per_s"}),
        (Phrase, ["phrase"], {"estimated"}),
        (Word, ["word_members", "placed_word"], set()),
        (Segment, ["segment_members", "segment"], set()),
        (Transcript, ["transcribe.result"], {"warnings"}),
    ],
)
def test_results_are_described_whole(
    kind: type[Any], names: list[str], more: set[str], defs: Mapping[str, Any]
) -> None:
    described = set().union(*(defs[name]["properties"] for name in names))
    assert described == {field.name for field in dataclasses.fields(kind)} | more


def test_updates_are_described_whole(defs: Mapping[str, Any]) -> None:
    described = defs["stream.feed.result"]["properties"]["updates"]["items"]["properties"]
    assert set(described) == set(get_type_hints(StreamUpdate))


@pytest.mark.parametrize(
    "body",
    [
        {"method": "dance"},
        {"method": "hello", "params": {"x": 1}},
        {"method": "hello", "id": 1.5},
        {"method": "hello", "id": True},
        {"method": "hello", "payload_length": 3},
        {"method": "unload", "params": {"model": "a"}},
        {"method": "transcribe", "params": {}},
        {"method": "transcribe", "params": {"audio": "a.wav"}, "payload_length": 3},
        {"method": "transcribe", "params": {"audio": "a.wav", "format": "s16le"}},
        {"method": "transcribe", "params": {"audio": "a.wav", "channels": True}},
        {"method": "align", "params": {"audio": "a.wav"}},
        {"method": "stream.feed", "params": {"stream": "s1"}},
        {"method": "stream.feed", "payload_length": 3},
        {"method": "cancel"},
        {"method": "transcribe", "payload_length": -1},
        {"method": "transcribe", "payload_length": 1 << 40},
        {"method": "models", "parms": {}},
        {"params": {}},
        [],
    ],
)
def test_what_the_worker_refuses_it_refuses(body: object) -> None:
    assert problem("request", body) is not None


def test_what_is_sent_today_is_all_described() -> None:
    """A member that the schema does not name is told, at every depth."""
    answer = {"jsonrpc": "2.0", "id": 1, "result": {"cancelled": True}}
    assert problem("answer", answer) is None
    assert problem("answer", {**answer, "more": 1}) is not None
    assert problem("answer", {**answer, "result": {"cancelled": True, "more": 1}}) is not None
    assert problem("cancel.result", {"cancelled": True, "more": 1}) is not None
