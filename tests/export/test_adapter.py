"""LoRA adapters merged while a checkpoint is read: against plain arithmetic, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from tests.support.stored import read_weights, rewritten, to_native, write_weights

from qwen3_asr_onnx.bundle.workshops import make_variant
from qwen3_asr_onnx.errors import BundleError, OptionsError
from qwen3_asr_onnx_export.checkpoint import EMBED, Checkpoint
from qwen3_asr_onnx_quantize import workshop

DATA = Path(__file__).parents[1] / "data"
BASE, ALIGNER = DATA / "mini-asr", DATA / "mini-aligner"
Floats = npt.NDArray[np.float32]

Q = "model.layers.1.self_attn.q_proj"
DOWN = "model.layers.2.mlp.down_proj"
FC1 = "audio_tower.layers.0.fc1"
CONV = "audio_tower.conv2d2"


@pytest.fixture(scope="module")
def base() -> dict[str, Floats]:
    """The base's tensors by canonical name."""
    return {name.removeprefix("thinker."): value for name, value in read_weights(BASE / "model.safetensors").items()}


def factors(base: dict[str, Floats], module: str, rank: int, seed: int = 0) -> dict[str, Floats]:
    """Return random factors of one module, as peft shapes them."""
    rng = np.random.default_rng([seed, len(module)])
    out, *rest = base[f"{module}.weight"].shape
    tail = [1] * (len(rest) - 1)
    return {
        "lora_A.weight": rng.standard_normal((rank, *rest)).astype(np.float32),
        "lora_B.weight": rng.standard_normal((out, rank, *tail)).astype(np.float32),
    }


def product(parts: dict[str, Floats]) -> Floats:
    a, b = parts["lora_A.weight"], parts["lora_B.weight"]
    flat = b.reshape(len(b), -1) @ a.reshape(len(a), -1)
    return flat.reshape(len(b), *a.shape[1:])


def save(folder: Path, tensors: dict[str, Any], **config: Any) -> Path:
    folder.mkdir()
    (folder / "adapter_config.json").write_text(
        json.dumps({"peft_type": "LORA", "r": 4, "lora_alpha": 6, "bias": "none", **config}), encoding="utf-8"
    )
    write_weights(folder / "adapter_model.safetensors", tensors)
    return folder


def keyed(module: str, parts: dict[str, Floats], prefix: str = "thinker.") -> dict[str, Floats]:
    return {f"base_model.model.{prefix}{module}.{key}": value for key, value in parts.items()}


@pytest.mark.parametrize("rooted", [False, True])
@pytest.mark.parametrize("module", [Q, DOWN, FC1, CONV])
def test_the_weight_is_the_sum(tmp_path: Path, base: dict[str, Floats], module: str, rooted: bool) -> None:
    parts = factors(base, module, 4)
    adapter = save(tmp_path / "adapter", keyed(module, parts), use_rslora=rooted)
    merged = Checkpoint.open(BASE, adapter)
    scale = 6 / 2 if rooted else 6 / 4
    expected = base[f"{module}.weight"] + np.float32(scale) * product(parts)
    found = merged.read(f"{module}.weight")
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    for start, stop in (
        (0, 1),
        (3, len(found) - 2),
        (len(found) - 5, len(found)),
    ):  # the same numbers, whoever asks for how many
        assert np.array_equal(merged.read_rows(f"{module}.weight", start, stop), found[start:stop])
    if found.ndim == 2:
        assert np.array_equal(merged.read_columns(f"{module}.weight", 5, 9), found.T[5:9])
    other = "model.layers.0.mlp.up_proj.weight"
    assert np.array_equal(merged.read(other), base[other])


def test_names_of_both_layouts_on_both_layouts(tmp_path: Path, base: dict[str, Floats]) -> None:
    native = rewritten(BASE, tmp_path / "native", native=True, precision="F32")
    parts = factors(base, Q, 4)
    expected = Checkpoint.open(BASE, save(tmp_path / "0", keyed(Q, parts))).read(f"{Q}.weight")
    inner = to_native(f"thinker.{Q}")
    for number, key in enumerate((Q, inner, inner.removeprefix("model.")), 1):
        adapter = save(tmp_path / str(number), keyed(key, parts, ""))
        for checkpoint in (BASE, native):
            assert np.array_equal(Checkpoint.open(checkpoint, adapter).read(f"{Q}.weight"), expected), key


def test_ranks_and_alphas_follow_their_patterns(tmp_path: Path, base: dict[str, Floats]) -> None:
    """As in peft: the first pattern that matches the whole name, or its end behind a dot."""
    ranks = {Q: 2, DOWN: 4, FC1: 8}
    tensors: dict[str, Floats] = {}
    for name, rank in ranks.items():
        tensors |= keyed(name, factors(base, name, rank))
    rank_pattern = {r"layers\.\d+\.self_attn.q_proj": 2, "fc1": 8}
    alpha_pattern = {"down_proj": 20, "proj": 1}
    adapter = save(tmp_path / "adapter", tensors, rank_pattern=rank_pattern, alpha_pattern=alpha_pattern)
    merged = Checkpoint.open(BASE, adapter)
    for module, scale in ((Q, 6 / 2), (DOWN, 20 / 4), (FC1, 6 / 8)):
        expected = base[f"{module}.weight"] + np.float32(scale) * product(factors(base, module, ranks[module]))
        np.testing.assert_allclose(merged.read(f"{module}.weight"), expected, rtol=1e-5, atol=1e-5)


def test_whole_tensors_take_the_place_of_the_base_s(tmp_path: Path, base: dict[str, Floats]) -> None:
    whole = {f"audio_tower.proj1.{kind}": base[f"audio_tower.proj1.{kind}"] + 1 for kind in ("weight", "bias")}
    kept = {"model.embed_tokens.weight": base[EMBED]}  # as peft's save_embedding_layers leaves it
    tensors = {f"base_model.model.thinker.{name}": value for name, value in {**whole, **kept}.items()}
    merged = Checkpoint.open(BASE, save(tmp_path / "adapter", tensors, modules_to_save=["proj1"]))
    for name, value in whole.items():
        assert np.array_equal(merged.read(name), value)
    assert np.array_equal(merged.read(EMBED), base[EMBED])


def test_a_table_of_its_own_can_be_adapted(tmp_path: Path) -> None:
    """An aligner's head is not its table; peft stores the factors of a table the other way round."""
    table = read_weights(ALIGNER / "model.safetensors")["thinker.model.embed_tokens.weight"]
    rng = np.random.default_rng(0)
    a = rng.standard_normal((4, len(table))).astype(np.float32)
    b = rng.standard_normal((table.shape[1], 4)).astype(np.float32)
    module = "base_model.model.thinker.model.embed_tokens"
    adapter = save(tmp_path / "adapter", {f"{module}.lora_embedding_A": a, f"{module}.lora_embedding_B": b})
    merged = Checkpoint.open(ALIGNER, adapter)
    np.testing.assert_allclose(merged.read(EMBED), table + 1.5 * (b @ a).T, rtol=1e-5, atol=1e-5)
    assert np.array_equal(merged.read_rows(EMBED, 100, 200), merged.read(EMBED)[100:200])


def test_a_variant_is_that_of_a_checkpoint_that_stores_the_sums(
    tmp_path: Path, base: dict[str, Floats], monkeypatch: pytest.MonkeyPatch
) -> None:
    tensors = {**keyed(Q, factors(base, Q, 4)), **keyed(FC1, factors(base, FC1, 4))}
    adapter = save(tmp_path / "adapter", {name: value * 0.05 for name, value in tensors.items()})
    merged = Checkpoint.open(BASE, adapter)

    def change(weights: dict[str, Any]) -> None:
        for module in (Q, FC1):
            weights[f"thinker.{module}.weight"] = merged.read(f"{module}.weight")

    stored = rewritten(BASE, tmp_path / "stored", precision="F32", change=change)
    made = make_variant(BASE, tmp_path / "made", "int4", adapter=adapter, name="model")
    monkeypatch.setattr(workshop, "check_variant", lambda *_: None)  # once is enough
    expected = make_variant(stored, tmp_path / "expected", "int4", name="model")
    plain = make_variant(BASE, tmp_path / "plain", "int4", name="model")
    assert made.manifest.files == expected.manifest.files != plain.manifest.files
    inputs = [bundle.manifest.variants["int4"].recipe["inputs"] for bundle in (made, expected)]
    assert inputs[0] == inputs[1]
    assert len(made.manifest.source["adapter_sha256"]) == 64
    kept = make_variant(BASE, tmp_path / "kept", "int4", adapter=adapter, name="model", keep_float32=True)
    assert made.manifest.files.items() <= kept.manifest.files.items()
    with pytest.raises(OptionsError, match="leave out the check"):
        make_variant(BASE, tmp_path / "checked", "int4", adapter=adapter, check=True)


# --- what is refused ---


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"use_dora": True}, "use_dora is set"),
        ({"peft_type": "IA3"}, "of the kind 'IA3'"),
        ({"lora_bias": True}, "lora_bias is set"),
        ({"layer_replication": [[0, 2]]}, "layer_replication is set"),
        ({"init_lora_weights": "pissa_niter_4"}, "changes the base too"),
        ({"rank_pattern": {"q_proj": 3}}, r"A \[4, 256\] and B \[256, 4\] where the rank is 3"),
        ({"rank_pattern": ["q_proj"]}, "rank_pattern is"),
        ({"alpha_pattern": {"(a+)+": 3}}, "too involved"),
        ({"alpha_pattern": {"(": 3}}, "no pattern"),
        ({"alpha_pattern": {"q_proj": "x"}}, "gives 'x'"),
        ({"r": 0}, r"adapter_config\.json: r"),
        ({"lora_alpha": "x"}, r"adapter_config\.json: lora_alpha"),
    ],
    ids=str,
)
def test_what_a_sum_cannot_say_is_refused(
    tmp_path: Path, base: dict[str, Floats], config: dict[str, Any], message: str
) -> None:
    adapter = save(tmp_path / "adapter", keyed(Q, factors(base, Q, 4)), **config)
    with pytest.raises(BundleError, match=message):
        Checkpoint.open(BASE, adapter)


def test_tensors_that_do_not_belong_are_refused(tmp_path: Path, base: dict[str, Floats]) -> None:
    parts = factors(base, Q, 4)
    bias = base["audio_tower.proj1.bias"]
    narrow = {**parts, "lora_A.weight": parts["lora_A.weight"][:, :-1]}
    head = {"lora_A.weight": parts["lora_A.weight"], "lora_B.weight": np.zeros((1024, 4), np.float32)}
    cases: list[tuple[dict[str, Any], dict[str, Any], str]] = [
        (keyed(Q, narrow), {"base_model_name_or_path": "Qwen/X"}, r"for another base \('Qwen/X'\): it changes .*255"),
        (keyed("model.layers.9.mlp.up_proj", parts), {}, "belongs to no layer of the base"),
        (keyed("vision.q_proj", parts), {}, "belongs to no layer"),
        (keyed(Q, {"lora_A.weight": parts["lora_A.weight"]}), {}, "has lora_A alone"),
        (keyed(Q, {**parts, "lora_magnitude_vector": bias}), {}, "belongs to no layer"),
        (keyed("audio_tower.proj1", {"bias": bias}), {"bias": "all"}, "bias is 'all'"),
        (keyed("audio_tower.proj1", {"bias": bias[1:]}), {}, "for another base"),
        (keyed("lm_head", head), {}, r"changes lm_head\.weight, and in its base the head and the table"),
        (keyed("model.embed_tokens", {"weight": base[EMBED] + 1}), {}, r"changes model\.embed_tokens\.weight"),
        ({**keyed(Q, parts), **keyed(Q, parts, "")}, {}, "two adapters of"),
    ]
    for number, (tensors, config, message) in enumerate(cases):
        adapter = save(tmp_path / str(number), tensors, **config)
        with pytest.raises(BundleError, match=message):
            Checkpoint.open(BASE, adapter)


def test_a_folder_that_is_no_adapter_is_refused(tmp_path: Path, base: dict[str, Floats]) -> None:
    with pytest.raises(BundleError, match=r"no adapter_config\.json"):
        make_variant(BASE, tmp_path / "out", "int4", adapter=tmp_path)
    adapter = save(tmp_path / "adapter", keyed(Q, factors(base, Q, 4)))
    (adapter / "adapter_model.safetensors").rename(adapter / "adapter_model.bin")
    with pytest.raises(BundleError, match="pickles are not read"):
        make_variant(BASE, tmp_path / "out", "int4", adapter=adapter)
    assert [path.name for path in tmp_path.iterdir()] == ["adapter"]
