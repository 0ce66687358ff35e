from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from tests.support.clips import synthetic_clip

from qwen3_asr_onnx import Transcriber
from qwen3_asr_onnx.bundle.names import AUDIO_FEATURES, MEL, N_FRAMES
from qwen3_asr_onnx.model.features import log_mel
from qwen3_asr_onnx.model.session import Session
from qwen3_asr_onnx.model.stopping import Stop, Stopped, current_stop


@pytest.fixture
def session(asr: Transcriber) -> Session:
    return asr._loaded.encoder._session


def inputs(asr: Transcriber) -> Mapping[str, Any]:
    mel = log_mel(synthetic_clip(2.0), asr.manifest.mel)
    return {MEL: np.ascontiguousarray(mel[None]), N_FRAMES: np.array([mel.shape[1]], dtype=np.int64)}


@pytest.mark.parametrize("bound", [False, True])
def test_a_call_under_way_ends_in_the_middle_and_the_session_goes_on(
    asr: Transcriber, session: Session, bound: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = inputs(asr)
    expected = session.run(AUDIO_FEATURES, given)
    found = np.zeros_like(expected)
    run = session.bind(given, {AUDIO_FEATURES: found}).run if bound else lambda: session.run(AUDIO_FEATURES, given)
    stop, other = Stop(), Stop()
    ends = 0

    def meanwhile(self: Session, call: Callable[[Any], Any]) -> Any:
        def seen(options: Any) -> Any:
            nonlocal ends
            if current_stop() is stop:
                thread = threading.Thread(target=stop.set)  # somebody hangs up
                thread.start()
                thread.join()
            result = call(options)
            ends += 1
            return result

        return original(self, seen)

    original = Session._call
    monkeypatch.setattr(Session, "_call", meanwhile)
    with pytest.raises(Stopped), stop.applied():
        run()
    assert ends == 0
    with other.applied():
        again = run()
    assert ends == 1
    np.testing.assert_array_equal(found if bound else again, expected)
    assert not stop._under_way
    assert not other._under_way
    assert current_stop() is None


def test_nothing_is_begun_for_who_does_not_want_it(
    asr: Transcriber, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop = Stop()
    stop.set()
    monkeypatch.setattr(session, "_session", None)
    with pytest.raises(Stopped), stop.applied():
        session.run(AUDIO_FEATURES, inputs(asr))


def test_an_error_of_a_call_that_nobody_stops_stays_what_it_is(session: Session) -> None:
    with pytest.raises(Exception, match="cannot run this graph"), Stop().applied():
        session.run(AUDIO_FEATURES, {})
