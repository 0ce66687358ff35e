from __future__ import annotations

import json
import math

import pytest

from qwen3_asr_onnx.bundle.json_text import measured_json


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_could_not_be_measured_is_null_however_deep_it_lies(value: float) -> None:
    text = measured_json({"kl": value, "seconds": (1.5, value), "wer": {"low": [value], "n": 3}, "name": "NaN"})
    body = json.loads(text, parse_constant=lambda name: pytest.fail(name))
    assert body == {"kl": None, "seconds": [1.5, None], "wer": {"low": [None], "n": 3}, "name": "NaN"}
