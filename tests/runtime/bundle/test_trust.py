"""A manifest is believed as far as it can be checked: ranges and types when read, the graphs when they are loaded."""

from __future__ import annotations

import json
import os
import socket
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.support.clips import synthetic_clip
from tests.support.manifests import edit_manifest, record_anew, set_field

from qwen3_asr_onnx import TranscribeOptions, Transcriber
from qwen3_asr_onnx.bundle.files import Bundle
from qwen3_asr_onnx.bundle.manifest import DIGEST, MANIFEST_FILE, manifest_digest
from qwen3_asr_onnx.errors import BundleError

BAD_FIELDS: list[tuple[str, Any]] = [
    ("name", 5),
    ("name", ""),
    ("kind", "text"),
    ("encoder", []),
    ("encoder.layers", 0),
    ("encoder.layers", True),
    ("encoder.d_model", 2.5),
    ("encoder.output_dim", 33),
    ("encoder.block_frames", 50),
    ("encoder.window_frames", 400),
    ("encoder.new", 1),
    ("decoder.layers", "2"),
    ("decoder.layers", 2**31),
    ("decoder.hidden", -32),
    ("decoder.kv_heads", 3),
    ("decoder.head_dim", 10**40),
    ("decoder.vocab_size", None),
    ("decoder.rope_theta", "1e6"),
    ("decoder.rms_norm_eps", -1),
    ("decoder.max_positions", 0),
    ("decoder.cache_dtype", "int8"),
    ("mel.sample_rate", 8000),
    ("mel.n_fft", 512),
    ("mel.hop_length", 320),
    ("mel.n_mels", 2**31),
    ("tokens.audio", 312),
    ("tokens.eos", []),
    ("tokens.eos", 300),
    ("tokens.eos", [300, True]),
    ("tokens.eos", [300, 300]),
    ("tokens.eos", [-1]),
    ("prompt.template", None),
    ("prompt.forced", ["a"]),
    ("languages", "English"),
    ("languages", [["English"]]),
    ("source", []),
    ("answer", "text"),
    ("files", []),
    ("files", {"encoder.onnx": {"size": -1, "sha256": "0" * 64}}),
    ("files", {"encoder.onnx": {"size": 1, "sha256": "0" * 63 + "/"}}),
    ("files", {"encoder.onnx": {"size": 1, "sha256": 7}}),
    ("files", {"../encoder.onnx": {"size": 1, "sha256": "0" * 64}}),
    ("variants", []),
    ("variants", {"a/b": {}}),
    ("variants.fp32.weights", "encoder.data"),
    ("variants.fp32.weights", ["encoder.data", 5]),
    ("variants.fp32.devices", "cpu"),
    ("variants.fp32.rescored", 2000),
    ("variants.fp32.embeddings", "table.bin"),
    ("variants.fp32.verified", 1),
    ("variants.fp32.judge_steps_from", -1),
    ("variants.fp32.recipe", 5),
    ("variants.fp32.encoder", ["encoder.onnx"]),
]


@pytest.mark.parametrize(("field", "value"), BAD_FIELDS, ids=lambda value: str(value)[:40])
def test_a_field_that_cannot_be_is_refused_by_name(bundle_copy: Path, field: str, value: object) -> None:
    set_field(bundle_copy, field, value)
    with pytest.raises(BundleError) as caught:
        Bundle.open(bundle_copy)
    message = str(caught.value)
    assert MANIFEST_FILE in message
    # What is inside a field is named with it.
    assert field.split(".")[-1] in message
    assert len(message) < 600


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("mel.n_mels", 80, r"mel\.n_mels is 80 in the manifest, and 128 in the graph's mel"),
        ("decoder.layers", 1, "has an input 'past_key.1' that the manifest does not account for"),
        ("decoder.layers", 3, "graph has no 'past_key.2'"),
        ("decoder.kv_heads", 2, r"decoder\.kv_heads is 2 in the manifest, and 1 in the graph's past_key\.0"),
        ("decoder.head_dim", 4096, r"decoder\.head_dim is 4096 in the manifest, and 16"),
        ("decoder.vocab_size", 311, r"embed_tokens\.bin: 19968 bytes, but decoder\.vocab_size 311"),
        ("variants.fp32.cache_dtype", "float16", r"past_key\.0 is a tensor\(float\), the manifest implies float16"),
        ("variants.fp32.rescored", 8, "graph has no 'final_hidden'"),
        ("tokens.audio", 304, r"<\|audio_pad\|> has the id 305, and tokens\.audio is 304"),
        ("tokens.eos", [300, 7], r"tokens\.eos has 7, which is no special token"),
        ("tokens.eos", [300], r"<\|im_end\|> has the id 302, which tokens\.eos does not hold"),
        (
            "prompt.forced",
            "language <asr_text>",
            r"prompt\.forced is 'language <asr_text>', which does not hold {language}",
        ),
        ("prompt.forced", "{language}<|im_end|>", r"end with <asr_text>"),
        ("prompt.template", "{context}<|nobody|>{audio}{forced}", r"no token '<\|nobody\|>'"),
        ("prompt.template", "{context}{forced}", "exactly once"),
        ("answer", {"kind": "language-tag", "tag": "<text>"}, "no token '<text>'"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_the_files_contradict_is_refused_at_load(
    bundle_copy: Path, field: str, value: object, expected: str
) -> None:
    set_field(bundle_copy, field, value)
    with pytest.raises(BundleError, match=expected):
        Transcriber(bundle_copy, threads=1)


def test_dimensions_that_agree_with_each_other_but_not_with_the_graphs(bundle_copy: Path) -> None:
    """Nothing is allocated by numbers that no file bears out, however well they fit each other."""

    def change(body: dict[str, Any]) -> None:
        body["decoder"] |= {"hidden": 65536, "vocab_size": 2**21, "kv_heads": 1024, "heads": 1024, "head_dim": 4096}
        body["encoder"]["output_dim"] = 65536

    edit_manifest(bundle_copy, change)
    tracemalloc.start()
    with pytest.raises(BundleError, match=r"embed_tokens\.bin: 19968 bytes"):
        Transcriber(bundle_copy, threads=1)
    assert tracemalloc.get_traced_memory()[1] < 5e6
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[" * 100_000, "levels deep"),
        ('{"a":' * 200 + "1" + "}" * 200, "levels deep"),
        ('{"format": 1, "format": 2}', "'format' stands twice"),
        ('{"format": NaN}', "NaN is not a number of JSON"),
        ('{"format": -Infinity}', "not a number of JSON"),
        ('{"format": 1e999}', "too large a number"),
        ('{"format": ' + "9" * 5000 + "}", "not valid JSON"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_json_that_python_alone_would_choke_on_or_accept(tmp_path: Path, text: str, expected: str) -> None:
    (tmp_path / MANIFEST_FILE).write_text(text, encoding="utf-8")
    with pytest.raises(BundleError, match=expected):
        Bundle.open(tmp_path)


def test_nesting_inside_what_is_open_json_is_bounded_too(bundle_copy: Path) -> None:
    deep: Any = 1
    for _ in range(100):
        deep = [deep]
    set_field(bundle_copy, "source", {"deep": deep})
    with pytest.raises(BundleError, match="levels deep"):
        Bundle.open(bundle_copy)


def test_a_manifest_of_hundreds_of_megabytes_is_not_read(bundle_copy: Path) -> None:
    with (bundle_copy / MANIFEST_FILE).open("r+b") as file:
        file.truncate(300_000_000)  # a hole: it takes no room
    with pytest.raises(BundleError, match=r"config\.json: 300\.0 MB; what belongs here has at most 16\.8 MB"):
        Bundle.open(bundle_copy)


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        here = Path.cwd()
        os.chdir(path.parent)  # the path of a socket is short
        try:
            one.bind(path.name)
        finally:
            os.chdir(here)


KINDS: dict[str, Callable[[Path], object]] = {
    "a named pipe": _pipe,
    "a device": _device,
    "a socket": _socket,
    "a directory": Path.mkdir,
}


@pytest.mark.skipif(os.name == "nt", reason="Windows has none of them")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("file", [MANIFEST_FILE, "encoder.onnx", "encoder.data", "embed_tokens.bin", "tokenizer.json"])
def test_what_is_no_regular_file_is_not_opened(bundle_copy: Path, file: str, kind: str) -> None:
    (bundle_copy / file).unlink()
    KINDS[kind](bundle_copy / file)
    with pytest.raises(BundleError, match=rf"{file}: is {kind} where a file is expected"):
        Transcriber(bundle_copy, threads=1)
    if file != MANIFEST_FILE:
        assert any(f"is {kind}" in problem for problem in Bundle.open(bundle_copy).verify())


def test_links_to_regular_files_are_as_good_as_files(bundle_copy: Path, tmp_path: Path) -> None:
    """The cache of the hub is made of them."""
    linked = tmp_path / "linked"
    linked.mkdir()
    for path in bundle_copy.iterdir():
        (linked / path.name).symlink_to(path)
    assert Bundle.open(linked).verify() == []
    with Transcriber(linked, threads=1) as asr:
        assert asr.transcribe(synthetic_clip(1.0), TranscribeOptions(max_new_tokens=1)).segments


def test_a_link_that_leads_nowhere_is_named(bundle_copy: Path) -> None:
    (bundle_copy / "encoder.data").unlink()
    (bundle_copy / "encoder.data").symlink_to("encoder.data")
    with pytest.raises(BundleError, match=r"encoder\.data: (missing|cannot be read)"):
        Transcriber(bundle_copy)
    assert len(Bundle.open(bundle_copy).verify()) == 1


# --- digest ---


def test_what_is_written_carries_a_digest_of_itself(tiny_bundle: Path, tmp_path: Path) -> None:
    manifest = Bundle.open(tiny_bundle).manifest
    manifest.save(tmp_path)
    body = json.loads((tmp_path / MANIFEST_FILE).read_text(encoding="utf-8"))
    assert body[DIGEST] == manifest_digest(body)
    assert Bundle.open(tmp_path).manifest == manifest


def test_other_indentation_and_line_ends_are_no_edit(bundle_copy: Path) -> None:
    edit_manifest(bundle_copy, lambda body: None)
    path = bundle_copy / MANIFEST_FILE
    body = json.loads(path.read_text(encoding="utf-8"))
    path.write_bytes(json.dumps(body, indent=7, ensure_ascii=False).replace("\n", "\r\n").encode())
    assert Bundle.open(bundle_copy).manifest.name == "tiny"


@pytest.mark.parametrize("change", [lambda b: b["tokens"].update(eos=[300]), lambda b: b.update(note=1)])
def test_an_edit_by_hand_is_refused(bundle_copy: Path, change: Callable[[dict[str, Any]], object]) -> None:
    edit_manifest(bundle_copy, lambda body: None)
    path = bundle_copy / MANIFEST_FILE
    body = json.loads(path.read_text(encoding="utf-8"))
    change(body)
    path.write_text(json.dumps(body), encoding="utf-8")
    with pytest.raises(BundleError, match=r"config\.json: was edited or damaged .*export or download the bundle again"):
        Bundle.open(bundle_copy)


def test_the_order_of_variants_is_part_of_the_digest() -> None:
    assert manifest_digest({"variants": {"a": 1, "b": 2}}) != manifest_digest({"variants": {"b": 2, "a": 1}})


def test_one_wrong_byte_in_the_tokenizer_is_found_at_load(bundle_copy: Path) -> None:
    path = bundle_copy / "tokenizer.json"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace('"a":64', '"a":65').replace('"b":65', '"b":64'), encoding="utf-8")
    if path.read_text(encoding="utf-8") == text:
        path.write_text(text[:-1] + " ", encoding="utf-8")
    with pytest.raises(BundleError, match=r"tokenizer\.json: contents differ"):
        Transcriber(bundle_copy, threads=1)


def test_a_tokenizer_with_more_ids_than_the_model_has_rows(bundle_copy: Path) -> None:
    path = bundle_copy / "tokenizer.json"
    body = json.loads(path.read_text(encoding="utf-8"))
    body["added_tokens"].append({**body["added_tokens"][-1], "id": 312, "content": "<more>"})
    path.write_text(json.dumps(body), encoding="utf-8")
    record_anew(bundle_copy, "tokenizer.json")
    with pytest.raises(BundleError, match=r"has ids up to 312, and decoder\.vocab_size is 312"):
        Transcriber(bundle_copy, threads=1)
