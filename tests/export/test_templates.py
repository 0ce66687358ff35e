"""The graphs that the package brings: found by dimensions, without torch, and equal to what is traced today."""

from __future__ import annotations

import json
import lzma
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="needs the export extra")

import onnx_ir as ir
from tests.support.shapes import SHAPES
from tests.support.traces import traced_once

from qwen3_asr_onnx import BundleError
from qwen3_asr_onnx.bundle.manifest import DecoderDims, EncoderDims
from qwen3_asr_onnx_export import graphs, placement, templates, trace
from qwen3_asr_onnx_export.checkpoint import EMBED, Checkpoint
from qwen3_asr_onnx_export.shapes import conv_output_bins, expected_shapes
from qwen3_asr_onnx_export.templates import released
from qwen3_asr_onnx_export.templates.released import MINIATURES, RELEASED, ReleasedShape, Template

pytestmark = pytest.mark.torch

SMALL = SHAPES["multiquery"]
TINY = ReleasedShape(  # what the tests of the whole export trace as well
    "tiny",
    EncoderDims(
        SMALL.encoder_layers, SMALL.d_model, SMALL.encoder_heads, SMALL.encoder_ffn, SMALL.conv_channels, SMALL.hidden
    ),
    DecoderDims(
        *(SMALL.layers, SMALL.hidden, SMALL.intermediate, SMALL.heads, SMALL.kv_heads, SMALL.head_dim),
        *(SMALL.vocab_rows, SMALL.rope_theta, 1e-6, SMALL.max_positions),
    ),
    SMALL.vocab_rows,
)

FREED = replace(RELEASED[-1], decoder=replace(RELEASED[-1].decoder, rope_theta=1e4, vocab_size=80))
"""The released aligner, were it tuned to other rotary frequencies and another vocabulary before the same head."""

OFFICIAL: dict[str, dict[str, Any]] = {
    "asr-0.6b": {
        "audio_config": {"d_model": 896, "encoder_attention_heads": 14, "encoder_ffn_dim": 3584, "encoder_layers": 18},
        "text_config": {"hidden_size": 1024, "intermediate_size": 3072},
    },
    "asr-1.7b": {
        "audio_config": {"d_model": 1024, "encoder_attention_heads": 16, "encoder_ffn_dim": 4096, "encoder_layers": 24},
        "text_config": {"hidden_size": 2048, "intermediate_size": 6144},
    },
    "aligner-0.6b": {
        "audio_config": {"d_model": 1024, "encoder_attention_heads": 16, "encoder_ffn_dim": 4096, "encoder_layers": 24},
        "text_config": {
            "hidden_size": 1024,
            "intermediate_size": 3072,
            "max_position_embeddings": 8192,
            "vocab_size": 152_064,
        },
        "model_type": "qwen3_forced_aligner",
        "classify_num": 5000,
    },
}
"""What sets the official config.json of each model apart; the rest they have in common."""


def official_config(name: str) -> dict[str, Any]:
    own = OFFICIAL[name]
    audio = {
        "activation_function": "gelu",
        "downsample_hidden_size": 480,
        "n_window": 50,
        "n_window_infer": 800,
        "num_mel_bins": 128,
        "output_dim": own["text_config"]["hidden_size"],
        "scale_embedding": False,
        **own["audio_config"],
    }
    text = {
        "attention_bias": False,
        "head_dim": 128,
        "hidden_act": "silu",
        "max_position_embeddings": 65_536,
        "num_attention_heads": 16,
        "num_hidden_layers": 28,
        "num_key_value_heads": 8,
        "rms_norm_eps": 1e-06,
        "rope_scaling": {"rope_type": "default", "type": "default"},
        "rope_theta": 1_000_000,
        "vocab_size": 151_936,
        **own["text_config"],
    }
    thinker = {"model_type": "qwen3_asr", "audio_token_id": 151_676, **own, "audio_config": audio, "text_config": text}
    config: dict[str, Any] = {"model_type": "qwen3_asr", "thinker_config": thinker}
    if "classify_num" in own:
        config |= {"timestamp_token_id": 151_705, "timestamp_segment_time": 80}
    return config


def write_hollow_checkpoint(folder: Path, name: str, shape: ReleasedShape) -> None:
    """Write the config and the weights of a released model, which are a hole in a file: they take no room."""
    (folder / "config.json").write_text(json.dumps(official_config(name)), encoding="utf-8")
    (folder / "generation_config.json").write_text('{"eos_token_id": [151643, 151645]}', encoding="utf-8")
    header, end = {}, 0
    for key, dims in expected_shapes(shape.encoder, shape.decoder, shape.n_mels, shape.head_rows).items():
        start, end = end, end + 2 * math.prod(dims)
        header[f"thinker.{key}"] = {"dtype": "BF16", "shape": list(dims), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with (folder / "model.safetensors").open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)


@pytest.fixture(scope="module")
def tiny_templates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the templates of the tiny shape alone."""
    folder = tmp_path_factory.mktemp("templates")
    with traced_once(tmp_path_factory):
        released.write(released.traced([TINY]), folder)
    return folder


@pytest.mark.slow
def test_what_the_tests_have_kept_is_what_is_traced(tmp_path_factory: pytest.TempPathFactory) -> None:
    encoder, decoder = (TINY.encoder, TINY.n_mels), (TINY.decoder, TINY.head_rows)
    fresh = [trace.trace_encoder(*encoder), trace.trace_decoder(*decoder)]
    with traced_once(tmp_path_factory):
        kept = [trace.trace_encoder(*encoder), trace.trace_decoder(*decoder)]
    assert [released.graph_bytes(one) for one in kept] == [released.graph_bytes(one) for one in fresh]


@pytest.fixture
def tiny(tiny_templates: Path, monkeypatch: pytest.MonkeyPatch) -> ReleasedShape:
    """The tiny shape, whose templates are there, and no others."""
    monkeypatch.setattr(templates, "FOLDER", tiny_templates)
    return TINY


@pytest.fixture
def traces(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A name for each graph that the tracer has been asked for; it traces none."""
    asked: list[str] = []

    def fake(name: str) -> Any:
        def trace_graph(*_: object) -> ir.Model:
            asked.append(name)
            return ir.Model(ir.Graph([], [], nodes=[]), ir_version=10)

        return trace_graph

    monkeypatch.setattr(trace, "trace_encoder", fake("encoder"))
    monkeypatch.setattr(trace, "trace_decoder", fake("decoder"))
    return asked


# --- what the package brings ---


@pytest.mark.parametrize("shape", RELEASED, ids=lambda shape: shape.name)
def test_an_official_checkpoint_finds_its_templates(tmp_path: Path, shape: ReleasedShape) -> None:
    write_hollow_checkpoint(tmp_path, shape.name, shape)
    checkpoint = Checkpoint.open(tmp_path)
    assert templates.find_encoder(checkpoint.encoder, checkpoint.mel.n_mels) is not None
    assert templates.find_decoder(checkpoint.decoder, checkpoint.head_rows) is not None


@pytest.mark.parametrize("shape", RELEASED, ids=lambda shape: shape.name)
def test_a_template_has_every_weight_of_the_checkpoint_in_its_shape(shape: ReleasedShape) -> None:
    encoder = templates.find_encoder(shape.encoder, shape.n_mels)
    decoder = templates.find_decoder(shape.decoder, shape.head_rows)
    assert encoder is not None
    assert decoder is not None
    found = {}
    for plan in (placement.plan(encoder, "encoder.data"), placement.plan(decoder, "decoder.data")):
        for place in plan.placements:
            assert place.length == 4 * math.prod(place.shape)
            found[place.name] = place.shape[::-1] if place.name in plan.transposed else place.shape
    computed = {
        "audio_tower.positions": (conv_output_bins(shape.encoder.block_frames), shape.encoder.d_model),
        "model.inv_freq": (shape.decoder.head_dim // 2,),
    }
    stored = expected_shapes(shape.encoder, shape.decoder, shape.n_mels, shape.head_rows)
    del stored[EMBED]
    assert found == stored | computed


def test_the_index_lists_the_files_that_are_there_and_they_are_small() -> None:
    index = json.loads((templates.FOLDER / templates.INDEX_FILE).read_text(encoding="utf-8"))
    files = {path.name: path.stat().st_size for path in templates.FOLDER.glob(f"*{templates.SUFFIX}")}
    assert set(index) == set(files)
    assert len(files) == 2 * len(RELEASED + MINIATURES)
    assert sum(files.values()) < 100_000


@pytest.mark.traced
@pytest.mark.parametrize("shape", [*RELEASED[:-1], FREED, *MINIATURES], ids=lambda shape: shape.name)
def test_the_templates_are_what_is_traced_today(shape: ReleasedShape) -> None:
    """If this fails, what is traced has changed: `make templates`, and read what that changes in the graphs."""
    for template in released.traced([shape]):
        kept = templates.FOLDER / f"{template.stem}{templates.SUFFIX}"
        assert lzma.decompress(kept.read_bytes()) == template.content, template.stem


def test_the_miniatures_of_this_source_find_theirs() -> None:
    for shape in MINIATURES:
        checkpoint = Checkpoint.open(Path(__file__).parents[1] / "data" / shape.name)
        assert templates.find_encoder(checkpoint.encoder, checkpoint.mel.n_mels) is not None
        assert templates.find_decoder(checkpoint.decoder, checkpoint.head_rows) is not None


# --- how a template is found ---


def test_dimensions_that_the_graph_shows_tell_templates_apart(tiny: ReleasedShape) -> None:
    encoder, decoder = tiny.encoder, tiny.decoder
    assert templates.find_encoder(encoder, tiny.n_mels) is not None
    assert templates.find_encoder(encoder, 80) is None
    assert templates.find_encoder(replace(encoder, heads=6), tiny.n_mels) is None
    assert templates.find_decoder(decoder, tiny.head_rows) is not None
    assert templates.find_decoder(decoder, 71) is None
    for other in ({"kv_heads": 3}, {"rms_norm_eps": 1e-5}, {"max_positions": 256}):
        assert templates.find_decoder(replace(decoder, **other), tiny.head_rows) is None


def test_dimensions_that_the_graph_does_not_show_are_free(traces: list[str]) -> None:
    """That their graph is the same is shown above, where it is traced."""
    graphs.decoder_graph(FREED.decoder, FREED.head_rows)
    assert traces == []


def test_a_damaged_template_is_named(tiny: ReleasedShape, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in templates.FOLDER.iterdir():
        content = path.read_bytes()
        (tmp_path / path.name).write_bytes(content[:-40] if path.suffix == ".xz" else content)
    monkeypatch.setattr(templates, "FOLDER", tmp_path)
    with pytest.raises(BundleError, match=r"tiny-encoder\.onnx\.xz: cannot be read \(.*\); install qwen3-asr"):
        templates.find_encoder(tiny.encoder, tiny.n_mels)
    (tmp_path / "tiny-decoder.onnx.xz").unlink()
    with pytest.raises(BundleError, match=r"tiny-decoder\.onnx\.xz: cannot be read"):
        templates.find_decoder(tiny.decoder, tiny.head_rows)


def test_a_graph_is_traced_if_there_is_no_template_or_it_is_asked_for(tiny: ReleasedShape, traces: list[str]) -> None:
    graphs.encoder_graph(tiny.encoder, tiny.n_mels)
    graphs.decoder_graph(tiny.decoder, tiny.head_rows)
    assert traces == []
    graphs.encoder_graph(tiny.encoder, tiny.n_mels, trace=True)
    graphs.decoder_graph(tiny.decoder, tiny.head_rows, trace=True)
    assert traces == ["encoder", "decoder"]
    graphs.encoder_graph(tiny.encoder, 80)
    graphs.decoder_graph(replace(tiny.decoder, layers=1), tiny.head_rows)
    assert traces == ["encoder", "decoder"] * 2


# --- how they are made ---


def test_making_templates_writes_what_has_changed_and_removes_what_is_gone(tmp_path: Path) -> None:
    first = [Template("a", {"graph": "encoder"}, b"one" * 99), Template("b", {"graph": "decoder"}, b"two")]
    released.write(first, tmp_path)
    same = lzma.compress(first[0].content, preset=0)  # as another release of the compressor might
    (tmp_path / "a.onnx.xz").write_bytes(same)
    released.write([first[0], Template("c", {"graph": "decoder"}, b"three")], tmp_path)
    assert (tmp_path / "a.onnx.xz").read_bytes() == same
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.onnx.xz", "c.onnx.xz", "index.json"]
    released.write([Template("a", {"graph": "encoder"}, b"four")], tmp_path)
    assert lzma.decompress((tmp_path / "a.onnx.xz").read_bytes()) == b"four"
    assert json.loads((tmp_path / "index.json").read_text(encoding="utf-8")) == {"a.onnx.xz": {"graph": "encoder"}}


# --- without torch ---

WITHOUT_TORCH = """
import json, sys
for name in ("torch", "onnxscript", "transformers", "safetensors"):
    sys.modules[name] = None  # as if it were not installed
from dataclasses import replace
import onnx_ir as ir
from qwen3_asr_onnx import MissingExtra
from qwen3_asr_onnx_export import graphs, placement
from qwen3_asr_onnx_export.templates.released import RELEASED
shape = RELEASED[0]
for name, model in (
    ("encoder", graphs.encoder_graph(shape.encoder, shape.n_mels)),
    ("decoder", graphs.decoder_graph(shape.decoder, shape.head_rows)),
):
    placement.attach(model, placement.plan(model, f"{name}.data"))
    ir.save(model, f"{name}.onnx")
refused = []
for build in (
    lambda: graphs.encoder_graph(replace(shape.encoder, layers=5), shape.n_mels),
    lambda: graphs.decoder_graph(shape.decoder, shape.head_rows, trace=True),
):
    try:
        build()
    except MissingExtra as error:
        refused.append(str(error))
print(json.dumps(refused))
"""


def test_a_released_shape_needs_no_torch_and_another_names_what_it_needs(tmp_path: Path) -> None:
    process = subprocess.run(
        [sys.executable, "-W", "error", "-c", WITHOUT_TORCH], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert process.stderr == ""
    encoder, decoder = json.loads(process.stdout)
    assert "tracing an encoder of 5 layers and width 896 needs more packages (import of torch" in encoder
    assert "tracing a decoder of 28 layers and width 1024 needs more packages" in decoder
    assert encoder.endswith("pip install 'qwen3-asr-onnx[export]'")
    graph = ir.load(tmp_path / "decoder.onnx").graph
    places = [value.const_value for value in graph.initializers.values() if value.dtype == ir.DataType.FLOAT]
    assert {str(place.location) for place in places if isinstance(place, ir.ExternalTensor)} == {"decoder.data"}
    assert len(places) == 28 * 11 + 3
