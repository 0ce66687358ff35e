"""tokenizer.json from vocabulary and merges: reproducible, equal to transformers', strict about its input."""

import json
import shutil
from pathlib import Path

import pytest

from qwen3_asr_onnx.errors import BundleError
from qwen3_asr_onnx_export.tokenizer_json import (
    build_tokenizer_json,
    check_tokenizer_json,
    verify_tokenizer_json,
)

SMALL = {
    "vocab.json": json.dumps({"a": 0, "b": 1, "ab": 2}),
    "merges.txt": "#version: 0.2\na b\n",
    "tokenizer_config.json": json.dumps(
        {
            "added_tokens_decoder": {
                str(token_id): {
                    "content": text,
                    "lstrip": False,
                    "normalized": False,
                    "rstrip": False,
                    "single_word": False,
                    "special": special,
                }
                for token_id, text, special in [(4, "<asr_text>", False), (3, "<|im_start|>", True)]
            }
        }
    ),
}


@pytest.fixture
def small_checkpoint(tmp_path: Path) -> Path:
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    for name, content in SMALL.items():
        (folder / name).write_text(content, encoding="utf-8")
    return folder


def test_the_same_bytes_every_time(real_tokenizer_dir: Path, real_tokenizer_json: Path, tmp_path: Path) -> None:
    build_tokenizer_json(real_tokenizer_dir, tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == real_tokenizer_json.read_bytes()


def test_added_tokens_keep_their_ids_and_flags(small_checkpoint: Path, tmp_path: Path) -> None:
    build_tokenizer_json(small_checkpoint, tmp_path / "out.json")
    built = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert [(t["id"], t["content"], t["special"]) for t in built["added_tokens"]] == [
        (3, "<|im_start|>", True),
        (4, "<asr_text>", False),
    ]
    assert built["model"]["merges"] == [["a", "b"]]


def test_the_aligners_tokenizer_has_one_more_token(real_tokenizer_dir: Path, tmp_path: Path) -> None:
    aligner = tmp_path / "aligner"
    shutil.copytree(real_tokenizer_dir, aligner)
    (aligner / "tokenizer_config.forced_aligner.json").replace(aligner / "tokenizer_config.json")
    build_tokenizer_json(aligner, tmp_path / "aligner.json")
    built = json.loads((tmp_path / "aligner.json").read_text(encoding="utf-8"))
    assert [(t["id"], t["content"]) for t in built["added_tokens"]][-1] == (151705, "<timestamp>")


def test_a_checkpoints_own_tokenizer_json_is_kept(small_checkpoint: Path, tmp_path: Path) -> None:
    (small_checkpoint / "tokenizer.json").write_bytes(b'{"own": 1}')
    build_tokenizer_json(small_checkpoint, tmp_path / "out.json")
    assert (tmp_path / "out.json").read_bytes() == b'{"own": 1}'


@pytest.mark.parametrize("name", sorted(SMALL))
def test_a_missing_file_is_named(small_checkpoint: Path, tmp_path: Path, name: str) -> None:
    (small_checkpoint / name).unlink()
    with pytest.raises(BundleError, match=name.replace(".", r"\.")):
        build_tokenizer_json(small_checkpoint, tmp_path / "out.json")
    assert not (tmp_path / "out.json").exists()


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("vocab.json", '{"a": 0, ', "not valid JSON"),
        ("vocab.json", "[1]", "holds no JSON object"),
        ("vocab.json", '{"a": "0"}', "holds ids that are none"),
        ("vocab.json", '{"a": -1}', "holds ids that are none"),
        ("tokenizer_config.json", "[]", "holds no JSON object"),
        ("tokenizer_config.json", '{"added_tokens_decoder": [1]}', "damaged added_tokens_decoder"),
        ("tokenizer_config.json", '{"added_tokens_decoder": {"x": {}}}', "damaged added_tokens_decoder"),
        ("tokenizer_config.json", '{"added_tokens_decoder": {"4": 5}}', "damaged added_tokens_decoder"),
        ("merges.txt", "#version: 0.2\na\n", "line 2 is 'a'"),
        ("merges.txt", "#version: 0.2\na c\n", "does not fit vocab"),
        ("tokenizer_config.json", "{}", "no added_tokens_decoder"),
        ("tokenizer_config.json", SMALL["tokenizer_config.json"].replace('"4"', '"7"'), "should have id 7"),
    ],
)
def test_damage_is_a_bundle_error(
    small_checkpoint: Path, tmp_path: Path, name: str, content: str, complaint: str
) -> None:
    (small_checkpoint / name).write_text(content, encoding="utf-8")
    with pytest.raises(BundleError, match=complaint):
        build_tokenizer_json(small_checkpoint, tmp_path / "out.json")


@pytest.mark.torch
def test_verified_against_transformers(real_tokenizer_dir: Path, real_tokenizer_json: Path) -> None:
    pytest.importorskip("transformers")
    verify_tokenizer_json(real_tokenizer_dir, real_tokenizer_json)


@pytest.mark.torch
@pytest.mark.parametrize(
    ("before", "after", "complaint"),
    [
        (r"[^\\r\\n\\p{L}\\p{N}]?\\p{L}+", r"\\p{L}+", "gives ids"),  # words without the space before them
        ('"type":"NFC"', '"type":"NFD"', "gives ids"),
        ('"content":"<asr_text>"', '"content":"<asr-text>"', "added tokens differ"),
    ],
)
def test_verification_sees_a_difference(
    real_tokenizer_dir: Path, real_tokenizer_json: Path, tmp_path: Path, before: str, after: str, complaint: str
) -> None:
    pytest.importorskip("transformers")
    right = real_tokenizer_json.read_text(encoding="utf-8")
    assert before in right
    (tmp_path / "wrong.json").write_text(right.replace(before, after, 1), encoding="utf-8")
    with pytest.raises(BundleError, match=complaint):
        verify_tokenizer_json(real_tokenizer_dir, tmp_path / "wrong.json")


@pytest.mark.parametrize(
    ("before", "after", "complaint"),
    [
        ('"type":"NFC"', '"type":"NFD"', "comes back as"),
        ('"content":"<asr_text>"', '"content":"<asr-text>"', r"'<asr_text>' has id None, .*config\.json says \d+"),
        ('"decoder":{"type":"ByteLevel"', '"decoder":{"type":"Fuse"', "comes back as"),
    ],
)
def test_without_transformers_a_tokenizer_is_asked_for_its_texts_and_tokens(
    real_tokenizer_dir: Path, real_tokenizer_json: Path, tmp_path: Path, before: str, after: str, complaint: str
) -> None:
    check_tokenizer_json(real_tokenizer_dir, real_tokenizer_json)
    right = real_tokenizer_json.read_text(encoding="utf-8")
    assert before in right
    (tmp_path / "wrong.json").write_text(right.replace(before, after, 1), encoding="utf-8")
    with pytest.raises(BundleError, match=complaint):
        check_tokenizer_json(real_tokenizer_dir, tmp_path / "wrong.json")
