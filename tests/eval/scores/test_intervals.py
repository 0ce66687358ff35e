"""Intervals cover, tests have their stated error rates, and figures without spread do not claim certainty."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("scipy", reason="needs the eval extra")

from qwen3_asr_onnx_eval.scores.intervals import holm, paired_test, ratio_interval, share_interval

RATE = 0.06
Counts = list[float]


def draw(rng: np.random.Generator, n: int, rate: float = RATE) -> tuple[Counts, Counts]:
    """Return errors and units of n utterances: errors come in clumps (beta-binomial), as in speech."""
    units = rng.integers(2, 20, n)
    errors = rng.binomial(units, rng.beta(0.3, 0.3 * (1 - rate) / rate, n))
    return errors.tolist(), units.tolist()


def test_the_interval_of_an_error_rate_covers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qwen3_asr_onnx_eval.scores.intervals.N_RESAMPLES", 499)
    rng = np.random.default_rng(0)
    found = [ratio_interval(*draw(rng, 150)) for _ in range(300)]
    covered = np.mean([one.low <= RATE <= one.high for one in found])
    # 95 % nominal; 300 simulations have a standard error of 1.3 points.
    assert 0.90 <= covered <= 0.985, covered


def test_speakers_are_resampled_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where speakers differ more than utterances, resampling utterances would claim too much."""
    monkeypatch.setattr("qwen3_asr_onnx_eval.scores.intervals.N_RESAMPLES", 499)
    rng = np.random.default_rng(1)
    hits = {"utterances": 0, "speakers": 0}
    for _ in range(150):
        speakers = np.repeat(np.arange(30), 10)
        rates = rng.beta(1.5, 1.5 * (1 - RATE) / RATE, 30)[speakers]
        units = rng.integers(5, 20, 300)
        errors = rng.binomial(units, rates).tolist()
        for name, groups in (("utterances", None), ("speakers", speakers.tolist())):
            interval = ratio_interval(errors, units.tolist(), groups)
            hits[name] += interval.low <= RATE <= interval.high
    assert hits["speakers"] / 150 >= 0.87
    assert hits["utterances"] < hits["speakers"] - 15


def test_no_error_is_no_certainty() -> None:
    clean = ratio_interval([0] * 300, [7] * 300)
    assert (clean.value, clean.low) == (0, 0)
    assert clean.high == pytest.approx(1 - 0.025 ** (1 / 300))
    one = ratio_interval([1], [4])
    assert one.low < 0.05
    assert one.high > 0.9


def test_shares_are_wilsons() -> None:
    interval = share_interval(0, 60)
    assert (interval.value, interval.low) == (0, 0)
    assert interval.high == pytest.approx(0.0602, abs=1e-4)
    assert np.isnan(share_interval(0, 0).value)


def test_equal_systems_are_rarely_called_different(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qwen3_asr_onnx_eval.scores.intervals.N_RESAMPLES", 99)
    monkeypatch.setattr("qwen3_asr_onnx_eval.scores.intervals.N_PERMUTATIONS", 499)
    rng = np.random.default_rng(2)
    p_values = []
    for _ in range(200):
        first, units = draw(rng, 100)
        second = rng.binomial(np.array(units, int), 0.06).tolist()
        # Labels drawn anew for every utterance: the two are exchangeable, whatever their distributions.
        swap = rng.random(100) < 0.5
        one, two = np.where(swap, second, first), np.where(swap, first, second)
        p_values.append(paired_test(one.tolist(), two.tolist(), units).p)
    assert np.mean(np.array(p_values) < 0.05) <= 0.09


def test_a_real_difference_is_found_with_its_sign() -> None:
    rng = np.random.default_rng(3)
    units = rng.integers(5, 20, 200)
    worse, better = rng.binomial(units, 0.12), rng.binomial(units, 0.06)
    found = paired_test(better.tolist(), worse.tolist(), units.tolist())
    assert found.difference.high < 0
    assert found.p < 0.01
    assert found.n_first_better > found.n_second_better


def test_equal_rows_are_no_difference() -> None:
    found = paired_test([1, 0, 2], [1, 0, 2], [3, 4, 5])
    assert (found.p, found.difference.value, found.difference.low, found.difference.high) == (1, 0, 0, 0)


def test_figures_are_the_same_every_time() -> None:
    rng = np.random.default_rng(4)
    errors, units = draw(rng, 80)
    assert ratio_interval(errors, units) == ratio_interval(errors, units)
    assert paired_test(errors, errors[::-1], units) == paired_test(errors, errors[::-1], units)


def test_holm() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == []
