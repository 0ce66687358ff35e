"""Recipe file with a [grid] table -> every combination of its values, each a recipe with a name of its own.

    name = "int4"
    rotation = true
    [step]
    scheme = "int4"
    [grid]
    "step.block" = [32, 64, 128]         # int4-block32-rotationtrue, ...
    rotation = [true, false]

A key is written as in the recipe, a table's with a dot; the combinations come in the order of the file, the last key
changing fastest.
"""

from __future__ import annotations

import copy
import itertools
import re
from pathlib import Path
from typing import Any

from qwen3_asr_onnx.errors import OptionsError

from .recipe import Recipe, load_recipe, read_toml, recipe_from_table

__all__ = ["load_recipes"]


def load_recipes(names: str) -> tuple[Recipe, ...]:
    """Return the recipes of a comma-separated list of published names, recipe files and grid files.

    Raises:
        OptionsError: one of them does not exist or is not a recipe, or two have one name.
    """
    recipes = tuple(recipe for name in names.split(",") for recipe in _expanded(name.strip()))
    found = [recipe.name for recipe in recipes]
    twice = next((name for name in found if found.count(name) > 1), None)
    if twice is not None:
        raise OptionsError(f"two recipes are called {twice!r}; give each a name of its own")
    return recipes


def _expanded(name: str) -> list[Recipe]:
    path = Path(name)
    if path.suffix != ".toml":
        return [load_recipe(name)]
    body = read_toml(path)
    grid = body.pop("grid", None)
    if grid is None:
        return [load_recipe(name)]
    if not isinstance(grid, dict) or not all(isinstance(values, list) and values for values in grid.values()):
        raise OptionsError(f'{path}: [grid] takes lists of values, for example "step.block" = [32, 128]')
    recipes = []
    for values in itertools.product(*grid.values()):
        chosen = dict(zip(grid, values, strict=True))
        one = copy.deepcopy(body)
        for key, value in chosen.items():
            _set(one, key, value, path)
        one["name"] = "-".join([str(body.get("name", path.stem)), *(_slug(key, chosen[key]) for key in chosen)])
        recipes.append(recipe_from_table(one, path.stem, where=f"{path}, {one['name']}"))
    return recipes


def _set(body: dict[str, Any], key: str, value: object, path: Path) -> None:
    *tables, last = key.split(".")
    for table in tables:
        body = body.setdefault(table, {})
        if not isinstance(body, dict):
            raise OptionsError(f"{path}: [grid] names {key!r}, but {table!r} is no table")
    body[last] = value


def _slug(key: str, value: object) -> str:
    return re.sub(r"[^a-z0-9.]+", "", f"{key.replace('.', '')}{value}".lower())
