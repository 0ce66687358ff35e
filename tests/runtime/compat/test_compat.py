"""The drop-in for the official package: its names, arguments, results and errors, as recorded from the package."""

from __future__ import annotations

import base64
import dataclasses
import inspect
import re
import subprocess
import sys
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tests.conftest import load_golden
from tests.support.clips import synthetic_clip
from tests.support.recording_aligner import RecordingAligner

from qwen3_asr_onnx import Transcriber, compat
from qwen3_asr_onnx.arrays import Waveform
from qwen3_asr_onnx.compat import (
    ASRStreamingState,
    ASRTranscription,
    CompatWarning,
    ForcedAlignItem,
    ForcedAlignResult,
    Qwen3ASRModel,
    Qwen3ForcedAligner,
    parse_asr_output,
    streaming,
)
from qwen3_asr_onnx.compat import arguments as compat_arguments
from qwen3_asr_onnx.errors import AudioError, BundleError, OptionsError, Qwen3AsrError
from qwen3_asr_onnx.options import TranscribeOptions
from qwen3_asr_onnx.results import Segment, Transcript
from qwen3_asr_onnx.stream.official import Written
from qwen3_asr_onnx.text.tokenizer import AddedToken

OFFICIAL = load_golden("official_api.json")
BUILTINS: dict[str, type[Exception]] = {"ValueError": ValueError, "TypeError": TypeError}
CLIP = (np.zeros(1600, np.float32), 16000)


@pytest.fixture
def model(asr: Transcriber) -> Qwen3ASRModel:
    return Qwen3ASRModel("onnxruntime", asr, asr.tokenizer, max_new_tokens=8)


@pytest.fixture
def asked(asr: Transcriber, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str | None]]:
    """The (context, language) of every audio that reaches the transcriber, which answers with one word."""
    seen: list[tuple[str, str | None]] = []

    def transcribe_many(audios: Iterable[object], options: list[TranscribeOptions]) -> Iterator[Transcript]:
        for _, own in zip(audios, options, strict=True):
            seen.append((own.context, own.language))
            segment = Segment(0.0, 0.1, "word", "English", (1,), "eos", -0.1)
            yield Transcript("word", "English", 0.1, (segment,), None, (1,), "eos", -0.1)

    monkeypatch.setattr(asr, "transcribe_many", transcribe_many)
    return seen


def matches(message: str) -> str:
    """Return a pattern for the fixed part of an official message: up to the first list of names."""
    return re.escape(message.partition(". Supported")[0].partition("; ")[0])


@pytest.mark.parametrize("name", OFFICIAL["signatures"])
def test_signatures_are_the_official_ones(name: str) -> None:
    function: Any = compat
    for part in name.split("."):
        function = getattr(function, part)
    found = [
        [p.name, p.kind.name, "required" if p.default is inspect.Parameter.empty else repr(p.default)]
        for p in inspect.signature(function).parameters.values()
    ]
    assert found == OFFICIAL["signatures"][name]


@pytest.mark.parametrize("kind", [ASRTranscription, ASRStreamingState, ForcedAlignItem, ForcedAlignResult])
def test_results_have_the_official_fields(kind: Any) -> None:
    expected = OFFICIAL["dataclasses"][kind.__name__]
    assert kind.__dataclass_params__.frozen == expected["frozen"]
    found = [
        [field.name, "required" if field.default is dataclasses.MISSING else repr(field.default)]
        for field in dataclasses.fields(kind)
        if field.name != "_policy"  # ours: the state machine behind the state
    ]
    assert found == expected["fields"]


def test_an_align_result_is_a_sequence_of_items() -> None:
    items = [ForcedAlignItem("a", 0.0, 0.08), ForcedAlignItem("b", 0.08, 0.4)]
    result = ForcedAlignResult(items)
    assert (list(result), len(result), result[1]) == (items, 2, items[1])
    with pytest.raises(dataclasses.FrozenInstanceError):
        items[0].text = "x"  # type: ignore[misc]


def test_parsing_gives_what_the_official_package_gives(official_text: dict[str, Any]) -> None:
    for case in official_text["parse"]:
        assert parse_asr_output(case["raw"], user_language=case["forced"]) == (case["language"], case["text"])
    assert parse_asr_output(None) == ("", "")


def test_the_languages_of_a_released_checkpoint_in_the_official_order(model: Qwen3ASRModel) -> None:
    assert model.get_supported_languages() == OFFICIAL["languages"]


@pytest.mark.parametrize(
    "case", OFFICIAL["calls"], ids=lambda case: f"{case['n_audios']}-{case['context']}-{case['language']}"
)
def test_contexts_and_languages_reach_their_audio(
    model: Qwen3ASRModel, asked: list[tuple[str, str | None]], case: dict[str, Any]
) -> None:
    audio = CLIP if case["n_audios"] is None else [CLIP] * case["n_audios"]
    if "error" in case:
        with pytest.raises(BUILTINS[case["error"]], match=matches(case["message"])):
            model.transcribe(audio, context=case["context"], language=case["language"])
        assert asked == []
    else:
        results = model.transcribe(audio, context=case["context"], language=case["language"])
        assert len(results) == case["result"]
        assert sorted(asked, key=str) == sorted(map(tuple, case["asked"]), key=str)


def test_results_stay_with_their_audio_whatever_is_decoded_together(
    model: Qwen3ASRModel, asr: Transcriber, monkeypatch: pytest.MonkeyPatch
) -> None:
    def transcribe_many(audios: Iterable[Any], options: list[TranscribeOptions]) -> Iterator[Transcript]:
        for (samples, _), own in zip(audios, options, strict=True):
            text = f"{own.context} {own.language} {samples.size}"
            yield Transcript(text, "English", 0.1, (), None, (), "eos", 0.0)

    monkeypatch.setattr(asr, "transcribe_many", transcribe_many)
    audios = [(np.zeros(n, np.float32), 16000) for n in (1, 2, 3, 4)]
    results = model.transcribe(audios, context=["a", "b", "a", "b"], language=["English", "German", "English", None])
    assert [result.text for result in results] == ["a English 1", "b German 2", "a English 3", "b None 4"]


@pytest.mark.parametrize("name", OFFICIAL["bad_audio"])
def test_audio_of_another_type_is_refused(model: Qwen3ASRModel, name: str) -> None:
    audio = {
        "array": CLIP[0],
        "none": None,
        "bytes": b"RIFF",
        "number": 3,
        "pair of lists": ([0.0] * 100, 16000),
        "triple": (*CLIP, 1),
        "three dimensions": (np.zeros((2, 3, 4), np.float32), 16000),
    }[name]
    expected = OFFICIAL["bad_audio"][name]
    with pytest.raises(BUILTINS[expected["error"]]) as caught:
        model.transcribe(audio)
    if expected["error"] == "TypeError":
        assert str(caught.value).startswith(expected["message"])


def test_time_stamps_need_an_aligner(model: Qwen3ASRModel) -> None:
    assert OFFICIAL["time_stamps_without_aligner"]["error"] == "ValueError"
    with pytest.raises(OptionsError, match="return_time_stamps=True needs an aligner"):
        model.transcribe(CLIP, return_time_stamps=True)


CUT_SHORT = pytest.mark.filterwarnings("ignore:audio 1 of 1. max_new_tokens=8 was reached")


@CUT_SHORT
def test_audio_as_path_url_text_and_array_is_the_same(model: Qwen3ASRModel, clip_file: Path) -> None:
    expected = model.transcribe(str(clip_file))
    encoded = base64.b64encode(clip_file.read_bytes()).decode()
    assert "/" not in encoded  # or the official package would take it for a path
    for audio in (encoded, f"data:audio/wav;base64,{encoded}", f"data:audio/wav,{encoded}", (CLIP[0], 16000)):
        assert model.transcribe(audio) == expected
    assert expected[0].time_stamps is None


def test_audio_that_cannot_be_read_is_named(model: Qwen3ASRModel) -> None:
    with pytest.raises(AudioError, match="not base64"):
        model.transcribe("x" * 301)
    with pytest.raises(AudioError, match="no such file"):
        model.transcribe("nowhere.wav")


@pytest.fixture(scope="session")
def clip_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A WAV file with the silence of `CLIP`."""
    import wave

    path = tmp_path_factory.mktemp("clips") / "clip.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", ""))
        file.writeframes(bytes(2 * CLIP[0].size))
    return path


def test_text_that_the_limit_ended_is_reported(model: Qwen3ASRModel) -> None:
    model.max_new_tokens = 2
    with pytest.warns(CompatWarning, match="audio 1 of 1: max_new_tokens=2 was reached and text may be missing"):
        model.transcribe((synthetic_clip(2.0), 16000))


@pytest.mark.filterwarnings("ignore:audio")
def test_a_batch_size_below_zero_lets_memory_decide_and_zero_is_refused(model: Qwen3ASRModel) -> None:
    model.max_inference_batch_size = -1
    model.max_new_tokens = None
    assert len(model.transcribe([CLIP] * 2)) == 2
    model.max_inference_batch_size = 0
    with pytest.raises(ValueError, match="batch_size is 0"):
        model.transcribe(CLIP)


def test_only_a_transcriber_can_be_wrapped(asr: Transcriber) -> None:
    with pytest.raises(TypeError, match="model is a SimpleNamespace; give a Transcriber"):
        Qwen3ASRModel("transformers", SimpleNamespace(), None)
    with pytest.raises(OptionsError, match="sampling_params: decoding is greedy"):
        Qwen3ASRModel("onnxruntime", asr, None, sampling_params=object())


@pytest.mark.parametrize(
    ("arguments", "device"),
    [
        ({}, "cpu"),
        ({"device_map": None}, "cpu"),
        ({"device_map": "cpu"}, "cpu"),
        ({"device_map": {"": "cpu"}}, "cpu"),
        ({"device_map": "auto"}, "cuda"),
        ({"device_map": "cuda"}, "cuda"),
        ({"device_map": "cuda:0"}, "cuda"),
        ({"device_map": 0}, "cuda"),
        ({"device_map": {"": 0}}, "cuda"),
        ({"device": "cpu", "dtype": "auto", "attn_implementation": None, "load_in_8bit": False}, "cpu"),
    ],
)
def test_devices_are_understood(arguments: dict[str, Any], device: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert compat_arguments.load_options(arguments, "here").device == device


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ({"device_map": "cuda:1"}, OptionsError, "set CUDA_VISIBLE_DEVICES"),
        ({"device_map": "mps"}, OptionsError, "device 'mps' is not supported; give cpu or cuda"),
        ({"device_map": {"a": "cpu", "b": 0}}, OptionsError, "a model runs on one device here"),
        ({"quantization_config": object()}, OptionsError, "choose the result with variant="),
        ({"cache_dir": "/tmp"}, OptionsError, "HF_HUB_CACHE"),
        ({"local_files_only": True}, OptionsError, "HF_HUB_OFFLINE=1"),
        ({"token": "hf_x"}, OptionsError, "HF_TOKEN"),
        ({"devce_map": "cpu"}, TypeError, "unexpected keyword argument 'devce_map'; did you mean device_map?"),
        ({"wibble": 1}, TypeError, "unexpected keyword argument 'wibble'$"),
    ],
)
def test_arguments_that_cannot_be_honoured_are_refused(
    tiny_bundle: Path, arguments: dict[str, Any], kind: type[Exception], message: str
) -> None:
    for load in (Qwen3ASRModel.from_pretrained, Qwen3ASRModel.LLM):
        with pytest.raises(kind, match=message):
            load(str(tiny_bundle), **arguments)


def test_arguments_without_effect_are_named(tiny_bundle: Path) -> None:
    with pytest.warns(CompatWarning) as caught:
        loaded = Qwen3ASRModel.LLM(
            str(tiny_bundle), dtype="bfloat16", attn_implementation="flash_attention_2", gpu_memory_utilization=0.8
        )
    said = [str(warning.message) for warning in caught]
    assert [text.partition("=")[0] for text in said] == ["dtype", "attn_implementation", "gpu_memory_utilization"]
    assert all("has no effect: " in text for text in said)
    assert {warning.filename for warning in caught} == {__file__}
    assert (loaded.max_new_tokens, loaded.max_inference_batch_size) == (4096, -1)


def test_a_gpu_that_is_not_there_is_replaced_with_a_warning(tiny_bundle: Path) -> None:
    with pytest.warns(CompatWarning, match="running on the CPU instead of a GPU: ") as caught:
        loaded = Qwen3ASRModel.from_pretrained(str(tiny_bundle), device_map="cuda:0")
    assert {warning.filename for warning in caught} == {__file__}
    assert (loaded.device, loaded.dtype, loaded.backend) == ("cpu", "fp32", "onnxruntime")


def test_auto_takes_the_cpu_without_a_word(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Qwen3ASRModel.from_pretrained(str(tiny_bundle), device_map="auto").device == "cpu"
    monkeypatch.setattr(compat_arguments, "available_providers", lambda: ("CUDAExecutionProvider",))
    with pytest.warns(CompatWarning, match="variant 'fp32' was made for cpu; give variant="):
        assert Qwen3ASRModel.from_pretrained(str(tiny_bundle), device_map="cuda").device == "cpu"


def test_wrong_paths_and_variants_are_explained(tiny_bundle: Path) -> None:
    with pytest.raises(BundleError, match="no such folder, and not a hub id"):
        Qwen3ASRModel.from_pretrained("./nowhere")
    with pytest.raises(BundleError, match="no variant 'int5'; this bundle has: fp32"):
        Qwen3ASRModel.from_pretrained(str(tiny_bundle), variant="int5")


@pytest.fixture
def recording() -> RecordingAligner:
    return RecordingAligner()


@pytest.fixture
def aligner(recording: RecordingAligner) -> Qwen3ForcedAligner:
    return Qwen3ForcedAligner(recording, None, None)


@pytest.mark.parametrize(
    "case", OFFICIAL["alignments"], ids=lambda case: f"{case['n_audios']}-{case['text']}-{case['language']}"
)
def test_texts_and_languages_reach_their_audio(
    aligner: Qwen3ForcedAligner, recording: RecordingAligner, case: dict[str, Any]
) -> None:
    audio = CLIP if case["n_audios"] is None else [CLIP] * case["n_audios"]
    if "error" in case:
        with pytest.raises(BUILTINS[case["error"]], match=matches(case["message"])):
            aligner.align(audio, case["text"], case["language"])
    else:
        assert len(aligner.align(audio, case["text"], case["language"])) == len(case["asked"])
    assert recording.asked == [tuple(pair) for pair in case["asked"]]


def test_an_aligner_gives_units_without_punctuation(aligner: Qwen3ForcedAligner) -> None:
    assert aligner.align(CLIP, "Hello, world.", "English") == [
        ForcedAlignResult([ForcedAlignItem("Hello", 0.0, 0.1), ForcedAlignItem("world", 0.1, 0.2)])
    ]
    assert aligner.get_supported_languages() == OFFICIAL["aligner_languages"]
    assert (aligner.timestamp_token_id, aligner.timestamp_segment_time) == (151705, 80.0)
    with pytest.raises(TypeError, match="Unsupported audio input type"):
        aligner.align(b"RIFF", "x", "English")
    with pytest.raises(TypeError, match="give an Aligner"):
        Qwen3ForcedAligner(SimpleNamespace(), None, None)


def test_time_stamps_are_aligned_piece_by_piece(
    asr: Transcriber,
    aligner: Qwen3ForcedAligner,
    recording: RecordingAligner,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pieces = [(0.0, 1.0, "Guten Tag,", "German"), (1.0, 1.5, " ", ""), (1.5, 2.0, "you.", "English")]
    segments = tuple(Segment(start, end, text, name, (1,), "eos", -0.1) for start, end, text, name in pieces)

    def transcribe_many(audios: Iterable[Any], options: list[TranscribeOptions]) -> Iterator[Transcript]:
        for waveform in audios:
            spoken = segments if waveform.size == 32000 else ()
            yield Transcript("all", "German,English", 2.0, spoken, None, (), "eos", 0.0)

    monkeypatch.setattr(asr, "transcribe_many", transcribe_many)
    model = Qwen3ASRModel("onnxruntime", asr, None, forced_aligner=aligner)
    results = model.transcribe([(np.zeros(32000, np.float32), 16000), CLIP], return_time_stamps=True)
    assert recording.asked == [(16000, "Guten Tag,", "German", 0.0), (8000, "you.", "English", 1.5)]
    assert results[0].time_stamps == ForcedAlignResult(
        [ForcedAlignItem("Guten", 0.0, 0.1), ForcedAlignItem("Tag", 0.1, 0.2), ForcedAlignItem("you", 1.5, 1.6)]
    )
    assert results[1].time_stamps is None


def test_an_asr_bundle_is_no_aligner(tiny_bundle: Path) -> None:
    with pytest.raises(BundleError, match="cannot align"):
        Qwen3ASRModel.from_pretrained(str(tiny_bundle), forced_aligner=str(tiny_bundle))
    with pytest.raises(OptionsError, match="device 'tpu'"):
        Qwen3ForcedAligner.from_pretrained(str(tiny_bundle), device_map="tpu")


def test_the_package_itself_does_not_load_the_drop_in() -> None:
    check = "import sys, qwen3_asr_onnx; sys.exit('qwen3_asr_onnx.compat' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check]).returncode == 0


class CharacterTokenizer:
    """As the recorder of the goldens: one token per character."""

    added_tokens = {0: AddedToken(0, "\0", True)}  # noqa: RUF012 - never changed

    def encode(self, text: str) -> list[int]:
        return [ord(char) for char in text]

    def decode(self, ids: Iterable[int], skip_special: bool = True) -> str:
        return "".join(map(chr, ids))


@pytest.mark.parametrize("case", OFFICIAL["streams"], ids=lambda case: str(case["arguments"]))
def test_streams_begin_as_the_official_ones(model: Qwen3ASRModel, case: dict[str, Any]) -> None:
    if "error" in case:
        with pytest.raises(BUILTINS[case["error"]], match=matches(case["message"])):
            model.init_streaming_state(**case["arguments"])
        return
    state = model.init_streaming_state(**case["arguments"])
    shown = visible(state) | {"force_language": state.force_language, "context": state.context}
    assert shown == case["result"]


def visible(state: ASRStreamingState) -> dict[str, Any]:
    return {
        "chunk_id": state.chunk_id,
        "chunk_size_samples": state.chunk_size_samples,
        "buffer": len(state.buffer),
        "audio_accum": len(state.audio_accum),
        "language": state.language,
        "text": state.text,
        "_raw_decoded": state._raw_decoded,
    }


def test_a_stream_goes_through_the_official_states(
    model: Qwen3ASRModel, asr: Transcriber, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = OFFICIAL["stream_steps"]
    answers = list(expected["answers"])
    heard: list[tuple[str, int]] = []

    class Recorder:
        def __init__(self, *_: object) -> None: ...

        def write(self, audio: Waveform, prefix: str) -> Written:
            heard.append((prefix, len(audio)))
            return Written(answers.pop(0))

    monkeypatch.setattr(streaming, "ModelWriter", Recorder)
    monkeypatch.setattr(asr, "_model", dataclasses.replace(asr._loaded, tokenizer=CharacterTokenizer()))  # type: ignore[arg-type]
    state = model.init_streaming_state(chunk_size_sec=0.5, unfixed_chunk_num=2, unfixed_token_num=4)
    for step in expected["steps"]:
        if "finish" in step:
            assert model.finish_streaming_transcribe(state) is state
        else:
            level = 16384 if step["kind"] == "int16" else 0.5
            block = (np.ones(step["n_samples"]) * level).astype(step["kind"])
            assert model.streaming_transcribe(block, state) is state
        assert visible(state) == step["state"]
    assert visible(model.finish_streaming_transcribe(state)) == expected["finish_again"]
    assert heard == [(prompt.removeprefix("<s></s>"), n_samples) for prompt, n_samples in expected["heard"]]
    assert (state.audio_accum == 0.5).all() == expected["all_half"]


def test_a_stream_with_the_model_itself(model: Qwen3ASRModel) -> None:
    model.max_new_tokens = 6
    clip = synthetic_clip(2.5)
    state = model.init_streaming_state(chunk_size_sec=1.0, language="English")
    assert state.prompt_raw.endswith("<|im_start|>assistant\nlanguage English<asr_text>")
    assert state.prompt_raw.count("<|audio_pad|>") == 1
    for first in range(0, clip.size, 3000):
        model.streaming_transcribe(clip[first : first + 3000], state)
    assert (state.chunk_id, state.buffer.size) == (2, 8000)
    model.finish_streaming_transcribe(state)
    assert (state.chunk_id, state.buffer.size, state.audio_accum.size) == (3, 0, clip.size)
    assert state.language == "English"
    assert state.text


def test_wrong_use_of_streams(model: Qwen3ASRModel) -> None:
    state = model.init_streaming_state()
    for arguments in [(None, state), (CLIP[0], None)]:
        with pytest.raises(ValueError, match="must not be None"):
            model.streaming_transcribe(*arguments)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="must not be None"):
        model.finish_streaming_transcribe(None)  # type: ignore[arg-type]
    with pytest.raises(AudioError, match="not finite numbers; nothing was taken in"):
        model.streaming_transcribe(np.array([np.nan], np.float32), state)
    assert state.buffer.size == 0
    stray = dataclasses.replace(state, _policy=None)
    with pytest.raises(OptionsError, match="not made by init_streaming_state"):
        model.streaming_transcribe(CLIP[0], stray)


def test_every_error_is_one_of_ours_too(model: Qwen3ASRModel) -> None:
    for arguments in ({"context": ["a", "b"]}, {"language": "Klingon"}):
        with pytest.raises(Qwen3AsrError):
            model.transcribe(CLIP, **arguments)
