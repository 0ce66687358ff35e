from __future__ import annotations

import json
from pathlib import Path

import pytest

from qwen3_asr_onnx.errors import OptionsError
from qwen3_asr_onnx_quantize.recipes.published import published_recipes
from qwen3_asr_onnx_quantize.recipes.recipe import Recipe, load_recipe, parse_recipe
from qwen3_asr_onnx_quantize.schemes import Dynamic, Keep, Stem, WeightOnly


def parse(text: str) -> Recipe:
    return parse_recipe(text, "mine", where="mine.toml")


def test_published_recipes_parse_and_are_named_after_their_file() -> None:
    names = list(published_recipes())
    assert {"int4", "int8", "fast"} <= set(names)
    for name in names:
        assert load_recipe(name).name == name


def test_what_is_left_out_takes_its_default() -> None:
    recipe = parse('[step]\nscheme = "int4"\nblock = 32\nexclude = ["*.v_proj.weight"]\n')
    assert recipe.name == "mine"
    assert recipe.encoder == Keep()
    assert recipe.step == WeightOnly("int4", block=32, exclude=("*.v_proj.weight",))
    assert recipe.init == recipe.step
    assert recipe.head == WeightOnly("int4", block=32)  # patterns for the layers say nothing about the head


def test_every_table_is_read() -> None:
    recipe = parse(
        'name = "other"\nrotation = true\n[encoder]\nscheme = "w8a8"\nactivations = "tensor"\nreduce_range = true\n'
        '[init]\nscheme = "fp32"\n[step]\nscheme = "int8"\nsymmetric = false\n[head]\nscheme = "fp32"\n'
        '[embedding]\nscheme = "fp16"\n[stem]\nscheme = "fp16"\n'
    )
    assert recipe == Recipe(
        "other",
        Dynamic(activations="tensor", reduce_range=True),
        Keep(),
        WeightOnly("int8", symmetric=False),
        Keep(),
        stem=Stem("fp16"),
        rotation=True,
    )


def test_the_record_is_json_with_every_default_spelled_out() -> None:
    record = parse('[step]\nscheme = "int4"\n').to_dict()
    assert json.loads(json.dumps(record)) == record
    assert record["step"]["accuracy_level"] == 4
    assert record["step"]["exclude"] == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[step", "mine.toml: not valid TOML"),
        ("", r"no \[step\] table"),
        ('stpe = 1\n[step]\nscheme = "int4"', "no key 'stpe' \\(did you mean 'step'\\?\\)"),
        ('[step]\nscheme = "int5"', r"\[step\]: scheme is 'int5' \(did you mean 'int8'\?\)|did you mean 'int4'"),
        ("[step]\nblock = 32", r"\[step\]: scheme is None"),
        ('[step]\nscheme = "int4"\nblok = 32', r"\[step\], scheme int4, has no key 'blok' \(did you mean 'block'\?\)"),
        ('[step]\nscheme = "w8a8"\nblock = 32', "scheme w8a8, has no key 'block'"),
        ('[step]\nscheme = "int4"\nblock = 48', r"\[step\]: block is 48; give one of 16, 32"),
        ('[step]\nscheme = "int4"\nblock = "32"', r"block is '32'; give a value like 128"),
        ('[step]\nscheme = "int4"\nblock = true', "block is True"),
        ('[step]\nscheme = "int4"\naccuracy_level = 5', "accuracy_level is 5; give 0 to 4"),
        ('[step]\nscheme = "int4"\nscales = "fp8"', "scales is 'fp8'"),
        ('[step]\nscheme = "int4"\nexclude = [1]', r"exclude is \[1\]; give a list of patterns"),
        ('[step]\nscheme = "w8a8"\nactivations = "row"', "activations is 'row'"),
        ('step = "int4"', r"\[step\] is 'int4'; it must be a table"),
        ('name = 3\n[step]\nscheme = "int4"', "name is 3; give a string"),
        ('name = "../x"\n[step]\nscheme = "int4"', "cannot name files"),
        ('name = "Int4"\n[step]\nscheme = "int4"', "cannot name files"),
        ('name = "fp32"\n[step]\nscheme = "int4"', "is the exported variant's"),
        ('[step]\nscheme = "int4"\n[embedding]\nscheme = "int4"', r"\[embedding\]: scheme is 'int4'"),
        (
            '[step]\nscheme = "int4"\n[stem]\nscheme = "int8"',
            r'\[stem\]: scheme is .int8.; give "fp32" or "fp16" or "w8a8"',
        ),
        ('[step]\nscheme = "int4"\n[stem]\nscheme = "w8a8"\nreduce_range = 1', r"\[stem\]: reduce_range is 1"),
        ('rotation = 1\n[step]\nscheme = "int4"', "rotation is 1; give true or false"),
        ('[step]\nscheme = "int4"\n[embedding]\nblock = 1', r"\[embedding\] has no key 'block'"),
        ('verified = true\n[step]\nscheme = "int4"', r"needs an \[init\] of its own"),
        ('verified = true\n[step]\nscheme = "fp16"\n[head]\nscheme = "fp16"', r"needs an \[init\] of its own"),
        (
            'verified = true\nsmoothing = true\n[step]\nscheme = "int4"\n[init]\nscheme = "fp32"',
            r"goes without smoothing, which scales the values that \[step\] keeps in the cache",
        ),
        (
            'verified = true\nrescoring = true\n[step]\nscheme = "int4"\n[init]\nscheme = "fp32"',
            "goes without rescoring",
        ),
    ],
)
def test_what_is_not_a_recipe_is_refused(text: str, message: str) -> None:
    with pytest.raises(OptionsError, match=message):
        parse(text)


def test_an_unknown_name_is_answered_with_the_closest() -> None:
    with pytest.raises(OptionsError, match=r"no recipe 'itn4' \(did you mean 'int4'\?\); published: "):
        load_recipe("itn4")


def test_a_file_is_read_by_path_and_named_after_it(tmp_path: Path) -> None:
    file = tmp_path / "small.toml"
    file.write_text('[step]\nscheme = "int4"\n', encoding="utf-8")
    assert load_recipe(str(file)).name == "small"
    with pytest.raises(OptionsError, match="cannot be read"):
        load_recipe(str(tmp_path / "absent.toml"))


def test_the_example_of_the_readme_is_a_recipe() -> None:
    readme = Path(__file__).parents[3] / "quantize" / "README.md"
    example = readme.read_text(encoding="utf-8").split("```toml\n")[1].split("```")[0]
    recipe = parse(example)
    assert recipe.rotation
    assert isinstance(recipe.init, Dynamic)
    assert recipe.step == WeightOnly("int4", 32, calibration="gptq", exclude=("model.layers.0.*", "*.v_proj.weight"))
