from __future__ import annotations

from pathlib import Path

import pytest

from qwen3_asr_onnx.errors import OptionsError
from qwen3_asr_onnx_quantize.recipes.grid import load_recipes
from qwen3_asr_onnx_quantize.recipes.recipe import load_recipe
from qwen3_asr_onnx_quantize.schemes import WeightOnly

GRID = """
rotation = true
[step]
scheme = "int4"
[grid]
"step.block" = [32, 128]
rotation = [true, false]
"head.scheme" = ["int8"]
"""


def write(folder: Path, text: str, name: str = "mine.toml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_every_combination_is_a_recipe(tmp_path: Path) -> None:
    recipes = load_recipes(f"int8, {write(tmp_path, GRID)}")
    assert recipes[0] == load_recipe("int8")
    assert [recipe.name for recipe in recipes[1:]] == [
        "mine-stepblock32-rotationtrue-headschemeint8",
        "mine-stepblock32-rotationfalse-headschemeint8",
        "mine-stepblock128-rotationtrue-headschemeint8",
        "mine-stepblock128-rotationfalse-headschemeint8",
    ]
    assert [(r.step.block, r.rotation) for r in recipes[1:] if isinstance(r.step, WeightOnly)] == [
        (32, True), (32, False), (128, True), (128, False),
    ]  # fmt: skip
    assert all(recipe.head == WeightOnly("int8") for recipe in recipes[1:])


def test_a_file_without_a_grid_is_one_recipe(tmp_path: Path) -> None:
    (recipe,) = load_recipes(str(write(tmp_path, '[step]\nscheme = "int4"\n')))
    assert recipe.name == "mine"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[step]\nscheme = "int4"\n[grid]\n"step.block" = 32\n', r"\[grid\] takes lists of values"),
        ('[step]\nscheme = "int4"\n[grid]\n"step.block" = []\n', r"\[grid\] takes lists of values"),
        ('grid = 3\n[step]\nscheme = "int4"\n', r"\[grid\] takes lists of values"),
        (
            '[step]\nscheme = "int4"\n[grid]\n"step.blok" = [32]\n',
            r"mine-stepblok32: .*no key 'blok' \(did you mean 'block'",
        ),
        ('[step]\nscheme = "int4"\n[grid]\n"step.block" = [33]\n', r"block is 33"),
        ('rotation = true\n[step]\nscheme = "int4"\n[grid]\n"rotation.x" = [1]\n', "'rotation' is no table"),
    ],
)
def test_what_is_no_grid_says_so(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(OptionsError, match=message):
        load_recipes(str(write(tmp_path, text)))


def test_two_of_one_name_are_refused() -> None:
    with pytest.raises(OptionsError, match="two recipes are called 'int4'"):
        load_recipes("int4,int4")


def test_a_grid_is_for_sweeps_only(tmp_path: Path) -> None:
    with pytest.raises(OptionsError, match="no key 'grid'"):
        load_recipe(str(write(tmp_path, GRID)))
