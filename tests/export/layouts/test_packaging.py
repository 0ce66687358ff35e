"""Where layouts come from, where they go, and what is refused with which words."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
from tests.support.layout_hosts import SherpaHost

from qwen3_asr_onnx import Bundle, BundleError, LimitError, OptionsError, Transcriber
from qwen3_asr_onnx.commands.cli import main
from qwen3_asr_onnx_export import cli
from qwen3_asr_onnx_export.layouts import packaging, weight_files
from qwen3_asr_onnx_export.layouts.packaging import LAYOUTS, write_layout
from qwen3_asr_onnx_quantize.apply import quantize_bundle
from qwen3_asr_onnx_quantize.recipes.recipe import load_recipe

from .conftest import DATA, MINI, STOPS, Clip, MakeLayout


def digests(folder: Path) -> dict[str, str]:
    found = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


@pytest.mark.parametrize(("layout", "variant"), [*((layout, "fp32") for layout in LAYOUTS), ("wyoming", "int4")])
def test_from_the_checkpoint_or_from_its_bundle_it_is_the_same(
    layout_of: MakeLayout, tmp_path: Path, layout: str, variant: str
) -> None:
    write_layout(MINI, tmp_path / "out", layout, variant=variant)
    expected, found = digests(layout_of(layout, variant)), digests(tmp_path / "out")
    for files in (expected, found):
        files.pop("config.json", None)
    assert found == expected
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


def test_the_first_variant_is_taken_where_none_is_named(mini: Path, layout_of: MakeLayout, tmp_path: Path) -> None:
    write_layout(mini, tmp_path / "out", "split")
    assert digests(tmp_path / "out") == digests(layout_of("split", "fp32"))


def test_weights_inside(
    mini: Path, tmp_path: Path, clip_of: Callable[[str], Clip], ours: Callable[[str, str], list[int]]
) -> None:
    write_layout(mini, tmp_path / "out", "sherpa", variant="int8", inline=True)
    assert not list((tmp_path / "out").glob("*.data"))
    host, clip = SherpaHost(tmp_path / "out"), clip_of("en_1")
    features = host.features(clip.mel, clip.n_tokens)[:, : clip.n_tokens]
    assert host.answer(features, clip.prompt, STOPS) == ours("en_1", "int8")


def test_no_file_grows_beyond_its_limit(
    mini: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    clip_of: Callable[[str], Clip],
    ours: Callable[[str, str], list[int]],
) -> None:
    monkeypatch.setattr(weight_files, "MAX_FILE_BYTES", 2_500_000)
    with pytest.raises(OptionsError, match=r"encoder\.int8\.onnx would hold 11 MB .* leave out --inline"):
        write_layout(mini, tmp_path / "out", "sherpa", variant="fp32", inline=True)
    assert not any(tmp_path.iterdir())
    write_layout(mini, tmp_path / "out", "sherpa", variant="fp32")
    sizes = {path.name: path.stat().st_size for path in (tmp_path / "out").glob("decoder*.data*")}
    assert sorted(sizes) == ["decoder.int8.onnx.data", *(f"decoder.int8.onnx.data.{n}" for n in (1, 2, 3))]
    assert max(sizes.values()) <= 2_500_000
    host, clip = SherpaHost(tmp_path / "out"), clip_of("en_1")
    features = host.features(clip.mel, clip.n_tokens)[:, : clip.n_tokens]
    assert host.answer(features, clip.prompt, STOPS) == ours("en_1", "fp32")


def test_no_number_is_stored_twice(layout_of: MakeLayout) -> None:
    for layout in LAYOUTS:
        folder = layout_of(layout, "fp32")
        places = {}
        for path in folder.glob("*.onnx"):
            for one in onnx.load(path, load_external_data=False).graph.initializer:
                entry = {field.key: field.value for field in one.external_data}
                if entry and one.name != "model.embed_tokens.weight":
                    places[entry["location"], int(entry["offset"])] = int(entry["length"])
        contents = [(folder / file).read_bytes()[start:][:length] for (file, start), length in places.items()]
        large = [hashlib.sha256(content).digest() for content in contents if len(content) > 10_000]
        assert len(large) == len(set(large))
        assert (
            sum(path.stat().st_size for path in folder.glob("*.data*"))
            < sum(map(len, contents)) + 4096 * len(places) + 524_288
        )


@pytest.fixture
def copied(mini: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(mini, tmp_path / "bundle"))


@pytest.mark.parametrize(
    ("recipe", "why"),
    [
        ("fast", "prompts and steps have a graph each"),
        ("fp16", "its cache is float16"),
        ("compact", "its table of embeddings is in 8 bits"),
    ],
)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_variants_that_no_layout_can_express(copied: Path, tmp_path: Path, recipe: str, why: str, layout: str) -> None:
    quantize_bundle(copied, load_recipe(recipe))
    with pytest.raises(OptionsError, match=f"variant '{recipe}' cannot be put into another program's layout: {why}"):
        write_layout(copied, tmp_path / "out", layout, variant=recipe)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_aligner(tmp_path: Path, layout: str) -> None:
    with pytest.raises(OptionsError, match=r"it is an aligner, which writes no text"):
        write_layout(DATA / "mini-aligner", tmp_path / "out", layout)
    assert not any(tmp_path.iterdir())


def test_the_cause_is_said(mini: Path, copied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    with pytest.raises(BundleError, match="no variant 'int5'; this bundle has: fp32, int8, int4, int8-tied"):
        write_layout(copied, out, "sherpa", variant="int5")
    with pytest.raises(OptionsError, match="no recipe"):
        write_layout(MINI, out, "sherpa", variant="int5")
    with pytest.raises(OptionsError, match=r"want logits in float32; leave out --fp16-logits"):
        write_layout(mini, out, "split", half_logits=True)
    with pytest.raises(BundleError, match=r"no config\.json"):
        write_layout(tmp_path, out, "sherpa")
    weights = copied / "decoder_weights.data"
    content = bytearray(weights.read_bytes())
    content[1_000_000] ^= 1
    weights.write_bytes(content)
    with pytest.raises(BundleError, match=r"decoder_weights\.data: damaged or edited"):
        write_layout(copied, out, "sherpa", variant="fp32")
    write_layout(copied, out, "wyoming", variant="int4")  # which reads other files
    with pytest.raises(BundleError, match="exists and is not empty"):
        write_layout(copied, out, "wyoming", variant="int4")
    write_layout(copied, out, "split", variant="int4", overwrite=True)
    assert not (out / "decoder_merged.int4.onnx").exists()
    (copied / "merges.txt").unlink()
    with pytest.raises(BundleError, match=r"merges\.txt: missing"):
        write_layout(copied, tmp_path / "sherpa", "sherpa", variant="int4")
    monkeypatch.setattr(packaging, "GRAPH_ALLOWANCE_BYTES", 1 << 60)
    with pytest.raises(LimitError, match="the layout needs"):
        write_layout(copied, tmp_path / "more", "split", variant="int4")


def test_a_checkpoint_whose_weights_are_no_numbers(tmp_path: Path) -> None:
    broken = Path(shutil.copytree(MINI, tmp_path / "broken"))
    content = bytearray((broken / "model.safetensors").read_bytes())
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    key = next(key for key in header if key.endswith("layers.1.mlp.up_proj.weight"))
    begin = 8 + int.from_bytes(content[:8], "little") + header[key]["data_offsets"][0]
    content[begin : begin + 4] = b"\xff" * 4
    (broken / "model.safetensors").write_bytes(content)
    with pytest.raises(BundleError, match=r"layers\.1\.mlp\.up_proj\.weight holds NaN"):
        write_layout(broken, tmp_path / "out", "sherpa")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken"]


def test_another_programs_files_are_not_taken_for_ours(layout_of: MakeLayout, copied: Path) -> None:
    """Nor do they disturb a bundle that they lie beside, where no name is the same."""
    with pytest.raises(BundleError, match=r"config\.json"):
        Transcriber(layout_of("wyoming", "int4"))
    with pytest.raises(BundleError, match=r"config\.json"):
        Transcriber(layout_of("sherpa", "int4"))
    shutil.copytree(layout_of("sherpa", "fp32"), copied, dirs_exist_ok=True)
    with pytest.raises(BundleError, match=r"encoder\.int8\.onnx"):
        Transcriber(copied, variant="int8")


def test_a_rescored_variant_goes_without_what_our_runtime_does_to_its_logits(
    copied: Path, tmp_path: Path, clip_of: Callable[[str], Clip]
) -> None:
    quantize_bundle(copied, replace(load_recipe("int4"), name="rescored", rescoring=True))
    assert Bundle.open(copied).manifest.variants["rescored"].rescored
    write_layout(copied, tmp_path / "out", "sherpa", variant="rescored")
    host, clip = SherpaHost(tmp_path / "out"), clip_of("en_1")
    assert len(host.decoder.get_outputs()) == 7
    assert host.answer(host.features(clip.mel, clip.n_tokens)[:, : clip.n_tokens], clip.prompt, STOPS)


def test_by_the_command_line(
    mini: Path, layout_of: MakeLayout, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["export", str(mini), str(out), "--layout", "wyoming", "--variant", "int4"]) == 0
    assert "5.0 MB, layout wyoming" in capsys.readouterr().err
    assert digests(out) == digests(layout_of("wyoming", "int4"))
    assert main(["export", str(mini), str(out), "--layout", "sherpa", "--fp16-logits", "-q"]) != 0
    assert "not empty" in capsys.readouterr().err
    for arguments in (["--variant", "int4"], ["--inline"], ["--fp16-logits"]):
        assert main(["export", str(mini), str(tmp_path / "more"), *arguments]) == 2
        assert "give --layout too" in capsys.readouterr().err
    assert main(["export", str(MINI), str(tmp_path / "more"), "--layout", "sherpa", "--trace"]) == 2
    assert set(cli.LAYOUT_NAMES) == set(LAYOUTS)


def test_a_graph_of_each_layout_has_no_path_in_it(layout_of: MakeLayout, mini: Path) -> None:
    for layout in LAYOUTS:
        for path in layout_of(layout, "fp32").glob("*.onnx"):
            assert str(mini).encode() not in path.read_bytes()
