"""Checkpoints, adapters and bundles from the hub and from folders into the store: what is needed, whole or not."""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
import threading
from collections import namedtuple
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.support.hub_server import COMMIT, FakeHub, used_hub

from qwen3_asr_onnx import Transcriber
from qwen3_asr_onnx.bundle import getting
from qwen3_asr_onnx.bundle import store as shelves
from qwen3_asr_onnx.bundle.choices import Origin, read_choices
from qwen3_asr_onnx.bundle.files import Bundle
from qwen3_asr_onnx.bundle.getting import GetOptions, default_model_name, get_model
from qwen3_asr_onnx.commands import cli
from qwen3_asr_onnx.compat import Qwen3ASRModel, Qwen3ForcedAligner
from qwen3_asr_onnx.errors import BundleError, LimitError, MissingExtra, OptionsError

DATA = Path(__file__).parents[2] / "data"
MANIFEST = DATA / "mini-clips" / "manifest.jsonl"
REPO = "Qwen/Qwen3-ASR-0.6B"
CONFIG = json.dumps({"model_type": "qwen3_asr", "thinker_config": {}}).encode()
BESIDE = {"config.json": CONFIG, "generation_config.json": b"{}", "vocab.json": b'{"a": 0}', "merges.txt": b"#"}
WEIGHTS = bytes(range(256)) * 20
CHECKPOINT = {**BESIDE, "model.safetensors": WEIGHTS}
OTHERS = {"README.md": b"#", "pytorch_model.bin": b"pickle", "picture.png": b"png", "other.safetensors": b"x"}
ADAPTER = {
    "adapter_config.json": json.dumps({"base_model_name_or_path": REPO, "peft_type": "LORA"}).encode(),
    "adapter_model.safetensors": b"lora",
    "optimizer.pt": b"pickle",
}


@pytest.fixture
def hub(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A hub with a checkpoint, an empty store, and huggingface_hub pointed at it."""
    with used_hub(tmp_path / "cache", monkeypatch) as running:
        running.files[REPO] = {**CHECKPOINT, **OTHERS}
        yield running


@pytest.fixture
def made(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the workshops are asked for; they make the tiny bundle of everything."""
    calls: list[dict[str, Any]] = []

    def make(checkpoint: Path, output: Path, recipe: str, **options: Any) -> Bundle:
        names = sorted(path.name for path in checkpoint.iterdir())
        adapter = options["adapter"]
        adapter_names = None if adapter is None else sorted(path.name for path in adapter.iterdir())
        calls.append({"recipe": recipe, "files": names, **options, "adapter": adapter_names})
        if output.exists():
            assert options["overwrite"]
            shutil.rmtree(output)
        return Bundle.open(shutil.copytree(tiny_bundle, output))

    def check(recipe: str, calibration: object, *, keeps_float32: bool) -> None:
        if recipe not in ("int4", "fast", "fp32"):
            raise OptionsError(f"no recipe {recipe!r}")

    monkeypatch.setattr(getting, "make_variant", make)
    monkeypatch.setattr(getting, "check_recipe", check)
    return calls


def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def test_only_what_a_checkpoint_is_read_from_is_fetched(hub: FakeHub, made: list[dict[str, Any]], store: Path) -> None:
    told: list[str] = []
    assert get_model(REPO, GetOptions(quiet=True), told.append) == store / "qwen3-asr-0.6b"
    assert sorted(set(hub.fetched())) == made[0]["files"] == sorted(CHECKPOINT)
    assert (made[0]["recipe"], made[0]["name"], made[0]["adapter"]) == ("int4", "Qwen3-ASR-0.6B", None)
    assert not hub.leaked
    assert read_choices().origins == {"qwen3-asr-0.6b": Origin(REPO, COMMIT, "int4")}
    assert shelves.default_name("asr") == "qwen3-asr-0.6b"
    recipe, left = told
    assert recipe.startswith("recipe int4: ")
    assert left.endswith("to free them: hf cache rm model/Qwen/Qwen3-ASR-0.6B")


def test_who_names_no_recipe_gets_what_is_recommended_for_the_size_and_is_told_why(
    hub: FakeHub, made: list[dict[str, Any]], store: Path
) -> None:
    sizes: list[int] = []

    def recommend(weight_bytes: int) -> tuple[str, str]:
        sizes.append(weight_bytes)
        return "fast", "it suits"

    told: list[str] = []
    assert get_model(REPO, GetOptions(recommend=recommend), told.append).name == "qwen3-asr-0.6b"
    assert sizes == [len(WEIGHTS)]
    assert "recipe fast: it suits; --recipe names another" in told
    assert read_choices().origins["qwen3-asr-0.6b"].recipe == "fast"
    assert get_model(REPO).name == "qwen3-asr-0.6b"  # whatever it was made by
    assert get_model(REPO, GetOptions(recipe="int4", recommend=recommend)).name == "qwen3-asr-0.6b-int4"
    assert [call["recipe"] for call in made] == ["fast", "int4"]
    assert len(sizes) == 1


def test_the_command_line_tells_what_there_is_and_how_it_is_used(
    hub: FakeHub, made: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["get", REPO]) == 0
    out, err = capsys.readouterr()
    assert out == "qwen3-asr-0.6b\n"
    assert "hf cache rm model/Qwen/Qwen3-ASR-0.6B" in err
    assert err.endswith("fp32, the default model; use it: qwen3-asr-onnx transcribe talk.mp3\n")
    assert cli.main(["get", REPO, "--recipe", "fast", "-q"]) == 0
    out, err = capsys.readouterr()
    assert (out, err) == ("qwen3-asr-0.6b-fast\n", "")
    assert cli.main(["get", REPO, "--recipe", "fast", "--overwrite"]) == 0
    assert capsys.readouterr().err.endswith("use it: qwen3-asr-onnx transcribe talk.mp3 -m qwen3-asr-0.6b-fast\n")


def test_shards_are_found_by_their_index(hub: FakeHub, made: list[dict[str, Any]]) -> None:
    index = json.dumps(
        {"weight_map": {"a": "m-1.safetensors", "b": "m-2.safetensors", "c": "m-1.safetensors"}}
    ).encode()
    shards = {"m-1.safetensors": WEIGHTS, "m-2.safetensors": WEIGHTS[::-1]}
    hub.files[REPO] = {**BESIDE, "model.safetensors.index.json": index, **shards, **OTHERS}
    get_model(REPO)
    assert made[0]["files"] == sorted([*BESIDE, "model.safetensors.index.json", *shards])


def test_what_was_got_is_not_got_again(hub: FakeHub, made: list[dict[str, Any]], store: Path) -> None:
    told: list[str] = []
    get_model(REPO)
    hub.asked.clear()
    assert get_model(REPO, say=told.append) == store / "qwen3-asr-0.6b"
    assert get_model(REPO, GetOptions(revision=COMMIT, name="qwen3-asr-0.6b"), told.append).name == "qwen3-asr-0.6b"
    assert hub.asked == []
    assert len(made) == 1
    assert "is here already" in told[0]
    with pytest.raises(BundleError, match="a model of that name is in the store; --overwrite replaces it, --name"):
        get_model(REPO, GetOptions(recipe="fast", name="qwen3-asr-0.6b"))
    get_model(REPO, GetOptions(recipe="fast", name="qwen3-asr-0.6b", overwrite=True))
    assert [call["recipe"] for call in made] == ["int4", "fast"]
    assert "model.safetensors" not in hub.fetched()  # it was in the cache
    assert read_choices().origins["qwen3-asr-0.6b"].recipe == "fast"


def test_an_interrupted_download_goes_on_and_nothing_is_in_the_store(
    hub: FakeHub, made: list[dict[str, Any]], store: Path
) -> None:
    hub.cuts["model.safetensors"] = 1500
    with pytest.raises(BundleError, match="fetching it failed"):
        get_model(REPO)
    assert shelves.entries() == []
    assert [path.name for path in store.iterdir()] == [".qwen3-asr-0.6b.lock"]
    hub.cuts.clear()
    hub.asked.clear()
    get_model(REPO)
    assert ("GET", "model.safetensors", "bytes=1500-") in hub.asked
    assert made[0]["files"] == sorted(CHECKPOINT)


def test_damaged_files_are_refused_and_fetched_anew(hub: FakeHub, made: list[dict[str, Any]]) -> None:
    for name, content in (("vocab.json", b'{"b": 0}'), ("model.safetensors", WEIGHTS[::-1])):
        hub.sent_instead[name] = content
        with pytest.raises(
            BundleError, match=rf"{name} (arrived|is) damaged: its digest is not the one in the hub's list"
        ):
            get_model(REPO)
        hub.sent_instead.clear()
    assert get_model(REPO)
    assert len(made) == 1


def test_a_digest_that_is_none_names_no_file(
    hub: FakeHub, made: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "tests.support.hub_server.large", lambda _: {"sha256": "../../evil", "size": 1, "pointerSize": 1}
    )
    with pytest.raises(BundleError, match=r"says of .* what is no size and digest"):
        get_model(REPO)
    assert made == []


@pytest.mark.parametrize("how", ["variable", "no network"])
def test_the_cache_is_enough_without_the_hub(
    hub: FakeHub, made: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    get_model(REPO)
    hub.asked.clear()
    if how == "variable":
        offline(monkeypatch)
    else:
        monkeypatch.setattr("qwen3_asr_onnx.bundle.repositories.is_reachable", lambda: False)
    get_model(REPO, GetOptions(recipe="fast"))
    assert hub.asked == []
    assert made[0]["files"] == made[1]["files"]
    assert read_choices().origins["qwen3-asr-0.6b-fast"] == Origin(REPO, COMMIT, "fast")
    with pytest.raises(BundleError, match="no earlier download of it, and the hub cannot be reached"):
        get_model("Qwen/Qwen3-ASR-1.7B")


def test_a_part_in_the_cache_is_not_enough_without_the_hub(
    hub: FakeHub, made: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.cuts["model.safetensors"] = 1500
    with pytest.raises(BundleError):
        get_model(REPO)
    offline(monkeypatch)
    with pytest.raises(
        BundleError, match=r"no weights that can be read; the cache has a part of it only .*HF_HUB_OFFLINE"
    ):
        get_model(REPO)
    assert made == []


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (
            {"config.json": b'{"model_type": "llama"}', "model.safetensors": b"x"},
            "no Qwen3-ASR model but one of the type",
        ),
        ({"config.json": b'{"model_type": "qwen3_asr", "quantization_config": {}}'}, "weights are quantized already"),
        ({"config.json": b"{"}, "not valid JSON"),
        ({"config.json": b"[]"}, "holds no JSON object"),
        ({"README.md": b"#"}, r"it has no config\.json and no adapter_config\.json; check the name"),
        (
            {"config.json": CONFIG, "pytorch_model.bin": b"x"},
            r"neither model\.safetensors nor .*pytorch_model\.bin is not",
        ),
        ({"config.json": CONFIG, "model.safetensors.index.json": b"{}"}, "lists no weights"),
        (
            {"config.json": CONFIG, "model.safetensors.index.json": b'{"weight_map": {"a": "../../x.safetensors"}}'},
            r"names '\.\./\.\./x\.safetensors', which is no \.safetensors file",
        ),
        (
            {"config.json": CONFIG, "model.safetensors.index.json": b'{"weight_map": {"a": "gone.safetensors"}}'},
            r"gone\.safetensors is not there, model\.safetensors\.index\.json lists it; tell the owner",
        ),
        (
            {"adapter_config.json": b'{"peft_type": "IA3"}', "adapter_model.safetensors": b"x"},
            "an adapter of the kind 'IA3', and only LoRA is merged here",
        ),
        ({"adapter_config.json": b"{}", "adapter_model.bin": b"x"}, r"an adapter without adapter_model\.safetensors"),
    ],
)
def test_what_is_no_model_is_refused_before_its_weights_move(
    hub: FakeHub, made: list[dict[str, Any]], files: dict[str, bytes], said: str
) -> None:
    hub.files["some/thing"] = files
    with pytest.raises(BundleError, match=said):
        get_model("some/thing")
    assert not {name for name in hub.fetched() if name.endswith((".safetensors", ".bin"))}
    assert made == []
    assert shelves.entries() == []


@pytest.mark.parametrize(
    ("source", "refusal", "said"),
    [
        ("Qwen/Qwen3-ASR-0.6", None, r"did you mean Qwen/Qwen3-ASR-0\.6B\? check the spelling"),
        ("qwen/qwen3-asr-1.7b", None, r"did you mean Qwen/Qwen3-ASR-1\.7B\?"),
        ("Qwen3-ASR-0.6B", None, r"not a hub id \(owner/name\) either; did you mean Qwen/Qwen3-ASR-0\.6B\?"),
        (
            "some/where",
            None,
            "no such public model on the hub; check the spelling, or log in: hf auth login, or set HF_TOK",
        ),
        (
            "some/gated",
            (403, "GatedRepo"),
            "access is gated; accept its conditions on the hub, then log in: .*HF_TOKEN",
        ),
        ("some/private", (401, ""), r"the hub refuses access \(401\); log in: hf auth login, or set HF_TOKEN"),
        ("no/such/thing", None, "no such folder, and not a hub id"),
        ("https://huggingface.co/Qwen/Qwen3-ASR-0.6B/tree/main", None, r"; give Qwen/Qwen3-ASR-0\.6B$"),
        ("https://modelscope.cn/models/Qwen/Qwen3-ASR-0.6B", None, r"; give modelscope:Qwen/Qwen3-ASR-0\.6B$"),
        ("modelscope:thing", None, "not an id of ModelScope, which is owner/name"),
    ],
)
def test_names_that_lead_nowhere_say_what_to_do(
    hub: FakeHub, capsys: pytest.CaptureFixture[str], source: str, refusal: tuple[int, str] | None, said: str
) -> None:
    if refusal:
        hub.refusals[source] = refusal
    with pytest.raises(BundleError, match=said):
        get_model(source)
    assert cli.main(["get", source]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)


def test_without_the_extra_the_pip_line_is_given(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingExtra, match=r"pip install 'qwen3-asr-onnx\[get\]'"):
        get_model(REPO)


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are a thing of Unix")
def test_a_terminal_is_not_littered(hub: FakeHub, made: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    import pty

    reader, writer = pty.openpty()
    with os.fdopen(writer, "w") as terminal, monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", terminal)
        get_model(REPO, GetOptions(quiet=True))
    os.set_blocking(reader, False)
    with pytest.raises(OSError):  # noqa: PT011 - nothing to read: the error differs by system
        os.read(reader, 1)
    os.close(reader)


def test_a_wrong_recipe_is_told_before_the_download(hub: FakeHub) -> None:
    pytest.importorskip("onnx", reason="needs the quantize extra")
    with pytest.raises(OptionsError, match="no recipe 'int5'"):
        get_model(REPO, GetOptions(recipe="int5"))
    with pytest.raises(OptionsError, match="'int4-gptq' is calibrated"):
        get_model(REPO, GetOptions(recipe="int4-gptq"))
    assert "model.safetensors" not in hub.fetched()


def test_too_little_disk_is_told_in_mb_with_the_place(
    hub: FakeHub, made: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("huggingface_hub.file_download.http_get", full)
        with pytest.raises(
            LimitError, match=rf"{tmp_path / 'cache'}: the disk is full, [0-9,.]+ MB are free;.* HF_HOME"
        ):
            get_model(REPO)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(5000, 0, 5000))
    with pytest.raises(BundleError, match=r"0\.0 MB are to be downloaded and .* has 0\.0 MB free; free some space"):
        get_model(REPO)
    assert made == []
    assert shelves.entries() == []


def test_two_at_once_of_one_name_do_not_meet(
    hub: FakeHub, made: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = threading.Event(), threading.Event()
    make: Callable[..., Bundle] = vars(getting)["make_variant"]

    def make_slowly(*args: Any, **options: Any) -> Bundle:
        begun.set()
        assert go_on.wait(30)
        return make(*args, **options)

    monkeypatch.setattr(getting, "make_variant", make_slowly)
    first = threading.Thread(target=get_model, args=(REPO,))
    first.start()
    assert begun.wait(30)
    try:
        with pytest.raises(BundleError, match=r"qwen3-asr-0\.6b: another process is making or removing this model"):
            get_model(REPO)
        assert shelves.entries() == []
    finally:
        go_on.set()
        first.join()
    assert [entry.name for entry in shelves.entries()] == ["qwen3-asr-0.6b"]
    assert len(made) == 1


def test_an_adapter_comes_with_its_base(hub: FakeHub, made: list[dict[str, Any]], tmp_path: Path) -> None:
    hub.files["some/Tuned"] = ADAPTER
    told: list[str] = []
    assert get_model("some/Tuned", say=told.append).name == "tuned"
    assert (made[0]["files"], made[0]["name"]) == (sorted(CHECKPOINT), "Tuned")
    assert made[0]["adapter"] == ["adapter_config.json", "adapter_model.safetensors"]
    assert read_choices().origins["tuned"].source == "some/Tuned"
    assert [line.rpartition("/")[2] for line in told[1:]] == ["Qwen3-ASR-0.6B", "Tuned"]
    # from a folder, with a base elsewhere
    for name, files in (("tuned-here", ADAPTER), ("base", CHECKPOINT)):
        (tmp_path / name).mkdir()
        for file, content in files.items():
            (tmp_path / name / file).write_bytes(content)
    get_model(str(tmp_path / "tuned-here"), GetOptions(base=str(tmp_path / "base"), recipe="fast"))
    assert (made[1]["files"], made[1]["recipe"]) == (sorted(CHECKPOINT), "fast")
    assert read_choices().origins["tuned-here-fast"].source == str(tmp_path / "tuned-here")


@pytest.mark.parametrize(
    ("config", "base", "said"),
    [
        (b"{}", None, "does not say what it belongs to; give its checkpoint with --base"),
        (b'{"base_model_name_or_path": "/root/gone"}', None, "no such folder.*--base names another place"),
        (b'{"base_model_name_or_path": "/x/Qwen3-ASR-0.6B"}', None, r"did you mean Qwen/Qwen3-ASR-0\.6B\?"),
        (b'{"base_model_name_or_path": "some/gone"}', None, "no such public model.*--base names another place"),
        (b'{"base_model_name_or_path": "some/llama"}', None, "no Qwen3-ASR model but one of the type 'llama'"),
        (b"{}", "some/Tuned", "its base some/Tuned is an adapter; give a checkpoint"),
        (b"{}", "nowhere", r"no such folder.*\(--base\)"),
    ],
)
def test_an_adapter_without_a_base_is_refused(
    hub: FakeHub, made: list[dict[str, Any]], config: bytes, base: str | None, said: str
) -> None:
    hub.files["some/Tuned"] = {**ADAPTER, "adapter_config.json": config}
    hub.files["some/llama"] = {"config.json": b'{"model_type": "llama"}'}
    with pytest.raises(BundleError, match=rf"some/Tuned: .*{said}"):
        get_model("some/Tuned", GetOptions(base=base))
    assert not {name for name in hub.fetched() if name.endswith(".safetensors")}
    assert made == []


def test_a_trainer_s_folder_with_both_is_a_model(hub: FakeHub, made: list[dict[str, Any]]) -> None:
    hub.files["some/both"] = {**CHECKPOINT, **ADAPTER}
    get_model("some/both")
    assert made[0]["files"] == sorted(CHECKPOINT)
    assert made[0]["adapter"] is None


def test_a_ready_bundle_is_taken_as_it_is(hub: FakeHub, tiny_bundle: Path, tmp_path: Path, store: Path) -> None:
    hub.files["some/Bundle"] = {path.name: path.read_bytes() for path in tiny_bundle.iterdir()} | OTHERS
    assert get_model("some/Bundle") == store / "bundle"
    assert Bundle.open(store / "bundle").verify() == []
    assert not set(hub.fetched()) & OTHERS.keys()
    assert read_choices().origins["bundle"] == Origin("some/Bundle", COMMIT, "fp32")
    get_model(str(tiny_bundle), GetOptions(name="copied", recipe="fp32"))
    assert Bundle.open(store / "copied").manifest.variants.keys() == {"fp32"}
    with pytest.raises(BundleError, match="no variant 'int4'; this bundle has: fp32"):
        get_model("some/Bundle", GetOptions(recipe="int4", name="other"))
    with pytest.raises(OptionsError, match="a ready bundle, which is taken as it is"):
        get_model("some/Bundle", GetOptions(name="other", keep_float32=True))
    damaged = tmp_path / "damaged"
    shutil.copytree(tiny_bundle, damaged)
    weights = next(damaged.glob("*.data"))
    weights.write_bytes(weights.read_bytes()[::-1])
    with pytest.raises(BundleError, match="contents differ"):
        get_model(str(damaged))
    assert shelves.find("damaged") is None


def test_official_ids_work_in_official_scripts(
    hub: FakeHub, made: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    model = Qwen3ASRModel.from_pretrained(REPO)
    assert model.model.variant == "fp32"
    err = capsys.readouterr().err
    assert err.startswith(
        "qwen3-asr-onnx: Qwen/Qwen3-ASR-0.6B is a checkpoint: making the model qwen3-asr-0.6b of it, once\n"
    )
    hub.asked.clear()
    Qwen3ASRModel.from_pretrained(REPO)
    Qwen3ASRModel.LLM(REPO)
    assert (hub.asked, len(made), capsys.readouterr().err) == ([], 1, "")
    Qwen3ASRModel.from_pretrained(REPO, variant="fp32", revision=COMMIT)  # what there is has both
    assert len(made) == 1
    hub.files["Qwen/Qwen3-ForcedAligner-0.6B"] = CHECKPOINT
    with pytest.raises(BundleError, match="cannot align"):  # of the tiny bundle that is made of everything here
        Qwen3ForcedAligner.from_pretrained("Qwen/Qwen3-ForcedAligner-0.6B")
    assert made[1]["name"] == "Qwen3-ForcedAligner-0.6B"


def test_another_model_of_the_same_name_is_left_alone(hub: FakeHub, made: list[dict[str, Any]]) -> None:
    hub.files["me/Qwen3-ASR-0.6B"] = CHECKPOINT
    get_model("me/Qwen3-ASR-0.6B")
    Qwen3ASRModel.from_pretrained(REPO)
    origins = {name: origin.source for name, origin in read_choices().origins.items()}
    assert origins == {"qwen3-asr-0.6b": "me/Qwen3-ASR-0.6B", "qwen--qwen3-asr-0.6b": REPO}


def test_a_model_is_found_by_where_it_came_from(
    hub: FakeHub, made: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(BundleError, match="but a checkpoint; make a model of it: qwen3-asr-onnx get Qwen/Qwen3-ASR"):
        Transcriber.from_pretrained(REPO)
    get_model(REPO)
    hub.asked.clear()
    with Transcriber.from_pretrained(REPO) as asr:
        assert asr.variant == "fp32"
    assert cli.main(["info", REPO]) == 0
    assert "home/models/qwen3-asr-0.6b" in capsys.readouterr().out.replace("\\", "/")
    assert hub.asked == []


@pytest.mark.parametrize(
    ("source", "recipe", "revision", "name"),
    [
        ("Qwen/Qwen3-ASR-0.6B", None, None, "qwen3-asr-0.6b"),
        ("Qwen/Qwen3-ASR-0.6B", "int4", None, "qwen3-asr-0.6b-int4"),
        ("Qwen/Qwen3-ASR-0.6B", "fast", None, "qwen3-asr-0.6b-fast"),
        ("modelscope:Qwen/Qwen3-ASR-0.6B", "my/own recipe.toml", "v1/x", "qwen3-asr-0.6b-own-recipe-v1-x"),
        ("mini", None, None, "mini"),
        ("???", None, None, "model"),
    ],
)
def test_names_are_made_of_sources(source: str, recipe: str | None, revision: str | None, name: str) -> None:
    assert default_model_name(source, recipe, revision) == name
    assert shelves.is_name(name)


def test_names_of_folders_are_those_of_the_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "Mein Modell ü").mkdir()
    monkeypatch.chdir(tmp_path / "Mein Modell ü")
    assert default_model_name(".") == "mein-modell"
    assert default_model_name(str(tmp_path / "Mein Modell ü") + "/") == "mein-modell"


def test_folders_have_no_revisions_and_files_are_none(store: Path, tmp_path: Path) -> None:
    with pytest.raises(OptionsError, match="is a folder, which has none"):
        get_model(str(tmp_path), GetOptions(revision="main"))
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(BundleError, match="this is a file; give the folder"):
        get_model(str(tmp_path / "model.safetensors"))
    with pytest.raises(BundleError, match=r"no config\.json and no adapter_config\.json"):
        get_model(str(tmp_path))
    with pytest.raises(BundleError, match="no name for a model"):
        get_model(str(tmp_path), GetOptions(name="a/b"))


def test_outside_a_clone_the_miniature_says_so(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(getting, "__file__", str(tmp_path / "a" / "b" / "c" / "d.py"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BundleError, match="mini: the miniatures come with a clone"):
        get_model("mini")


def test_a_store_that_cannot_be_written_is_told_before_the_download(
    hub: FakeHub, made: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_only(*_: object, **__: object) -> int:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("qwen3_asr_onnx.bundle.locks.os.open", read_only)
    with pytest.raises(
        BundleError, match=r"the model store cannot be written \(Read-only file system\); set QWEN3_ASR_HOME"
    ):
        get_model(REPO)
    assert hub.asked == []


@pytest.mark.slow  # two models are made
def test_an_official_script_changes_its_import_and_nothing_else(
    hub: FakeHub, store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for package in ("onnx", "safetensors", "soundfile"):
        pytest.importorskip(package, reason="needs the get and audio extras")
    if not (DATA / "mini-asr").is_dir():
        pytest.skip("needs the source tree")
    for repo, name in ((REPO, "mini-asr"), ("Qwen/Qwen3-ForcedAligner-0.6B", "mini-aligner")):
        hub.files[repo] = {path.name: path.read_bytes() for path in (DATA / name).iterdir()} | OTHERS
    script: dict[str, Any] = {"forced_aligner": "Qwen/Qwen3-ForcedAligner-0.6B", "device_map": "cpu"}
    row = next(row for row in map(json.loads, MANIFEST.read_text("utf-8").splitlines()) if row["language"] == "English")
    for _ in range(2):  # made, and found
        model = Qwen3ASRModel.from_pretrained(REPO, **script)
        audio = str(MANIFEST.parent / row["file"])
        (result,) = model.transcribe(audio, context=row["context"], language="English", return_time_stamps=True)
        assert result.text == row["text"]
        assert result.time_stamps is not None
        assert " ".join(item.text for item in result.time_stamps) == row["text"].rstrip("?.")
        hub.files.clear()
    names = {entry.name: (entry.manifest.kind, entry.is_default) for entry in shelves.entries() if entry.manifest}
    assert names == {"qwen3-asr-0.6b": ("asr", True), "qwen3-forcedaligner-0.6b": ("aligner", True)}
    capsys.readouterr()
    assert cli.main(["transcribe", audio, "--timestamps", "word", "-f", "json", "-q", "-l", "en"]) == 0
    assert json.loads(capsys.readouterr().out)["words"]
    assert cli.main(["align", audio, row["text"], "-l", "en", "-q"]) == 0


@pytest.mark.slow  # two models are made
def test_an_adapter_is_merged_into_its_base_or_told_that_it_is_another_s(hub: FakeHub, store: Path) -> None:
    for package in ("onnx", "safetensors"):
        pytest.importorskip(package, reason="needs the get extra")
    if not (DATA / "mini-asr").is_dir():
        pytest.skip("needs the source tree")
    from safetensors.numpy import save
    from tests.support.stored import read_weights

    checkpoint = {path.name: path.read_bytes() for path in (DATA / "mini-asr").iterdir()}
    module = "thinker.model.layers.0.self_attn.q_proj"
    rows, columns = read_weights(DATA / "mini-asr" / "model.safetensors")[f"{module}.weight"].shape
    config = {"base_model_name_or_path": REPO, "peft_type": "LORA", "r": 2, "lora_alpha": 4, "bias": "none"}

    def adapter(n_columns: int) -> dict[str, bytes]:
        rng = np.random.default_rng(0)
        factors = {
            f"base_model.model.{module}.lora_A.weight": rng.standard_normal((2, n_columns), dtype=np.float32),
            f"base_model.model.{module}.lora_B.weight": rng.standard_normal((rows, 2), dtype=np.float32),
        }
        return {"adapter_config.json": json.dumps(config).encode(), "adapter_model.safetensors": save(factors)}

    hub.files |= {REPO: checkpoint, "me/tuned": adapter(columns), "me/other": adapter(columns + 1)}
    tuned, plain = get_model("me/tuned"), get_model(REPO)
    differing = {path.name for path in plain.iterdir() if path.read_bytes() != (tuned / path.name).read_bytes()}
    assert "decoder_weights.int4.data" in differing
    assert not differing & {"embed_tokens.bin", "encoder.int4.data", "tokenizer.json"}
    assert Bundle.open(tuned).manifest.name == "tuned"
    with pytest.raises(BundleError, match="q_proj"):
        get_model("me/other")
    assert {entry.name for entry in shelves.entries()} == {"tuned", "qwen3-asr-0.6b"}
