"""Write official_api.json beside this file: names, signatures, fields and argument handling of the official package.

Nothing of qwen3-asr-onnx is imported here; see make_official.py for the environment. No weights are needed: a recorder
stands in for the model, so what is kept is which context and language each audio gets, and which error is raised.
"""

import dataclasses
import importlib.metadata
import inspect
import json
import platform
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import qwen_asr
from qwen_asr.inference import qwen3_asr, qwen3_forced_aligner

HERE = Path(__file__).parent
PACKAGES = ("qwen-asr", "transformers", "numpy", "torch")

ASR_METHODS = (
    "__init__",
    "from_pretrained",
    "LLM",
    "get_supported_languages",
    "transcribe",
    "init_streaming_state",
    "streaming_transcribe",
    "finish_streaming_transcribe",
)
ALIGNER_METHODS = ("__init__", "from_pretrained", "align", "get_supported_languages")
DATACLASSES = (
    qwen3_asr.ASRTranscription,
    qwen3_asr.ASRStreamingState,
    qwen3_forced_aligner.ForcedAlignItem,
    qwen3_forced_aligner.ForcedAlignResult,
)

CALLS = [
    # number of audios (None: one, not in a list), context, language
    (None, "", None),
    (None, "names", "English"),
    (None, ["names"], ["cHINese"]),
    (None, "", ""),
    (None, "", "  "),
    (None, "", ["", None][:1]),
    (1, "", [None]),
    (1, "x", "macedonian"),
    (2, "", None),
    (2, "both", "German"),
    (2, ["one", "two"], ["german", None]),
    (2, ["both"], [" English "]),
    (3, ["a", "b", "c"], ["English", "", "Chinese"]),
    (2, ["a", "b", "c"], None),
    (3, ["a", "b"], None),
    (2, "", ["English", "German", "French"]),
    (3, "", ["English", "German"]),
    (1, ["a", "b"], None),
    (1, [], None),
    (1, "", []),
    (0, "", None),
    (0, [], None),
    (0, [], "English"),
    (None, "", "en"),
    (None, "", "Klingon"),
    (2, "", ["English", "Klingon"]),
    (None, "", "Chinese,English"),
]
BAD_AUDIO = {
    "array": np.zeros(16000, np.float32),
    "none": None,
    "bytes": b"RIFF",
    "number": 3,
    "pair of lists": ([0.0] * 100, 16000),
    "triple": (np.zeros(10, np.float32), 16000, 1),
    "three dimensions": (np.zeros((2, 3, 4), np.float32), 16000),
}
ALIGNMENTS = [
    # number of audios (None: one, not in a list), text, language
    (None, "one text", "English"),
    (None, ["one text"], ["English"]),
    (2, ["a", "b"], "English"),
    (2, ["a", "b"], ["German"]),
    (2, ["a", "b"], ["German", "French"]),
    (2, "one text", "English"),
    (2, ["a"], "English"),
    (1, ["a", "b"], "English"),
    (2, ["a", "b"], ["German", "French", "Korean"]),
    (1, "a", ["German", "French"]),
    (0, [], []),
    (0, [], "English"),
]
STREAMS = [
    {"language": "English"},
    {"language": "gerMAN", "context": "names"},
    {"language": ""},
    {"language": None, "context": None},
    {"language": "en"},
    {"chunk_size_sec": 0},
    {"chunk_size_sec": -1.0},
    {"chunk_size_sec": None},
    {"chunk_size_sec": 0.5, "unfixed_chunk_num": 3, "unfixed_token_num": 4},
]


def main():
    body = {
        "made_with": {name: importlib.metadata.version(name) for name in PACKAGES}
        | {"python": platform.python_version()},
        "signatures": signatures(),
        "dataclasses": {kind.__name__: fields(kind) for kind in DATACLASSES},
        "languages": recorder([]).get_supported_languages(),
        "calls": [call(*arguments) for arguments in CALLS],
        "bad_audio": {name: outcome(lambda a=audio: recorder([]).transcribe(a)) for name, audio in BAD_AUDIO.items()},
        "time_stamps_without_aligner": outcome(
            lambda: recorder([]).transcribe((np.zeros(16000, np.float32), 16000), return_time_stamps=True)
        ),
        "alignments": [alignment(*arguments) for arguments in ALIGNMENTS],
        "aligner_languages": aligner_recorder([]).get_supported_languages(),
        "streams": [stream(arguments) for arguments in STREAMS],
        "stream_steps": stream_steps(),
    }
    (HERE / "official_api.json").write_text(one_case_per_line(body) + "\n", encoding="utf-8")


def one_case_per_line(body):
    """Return JSON in which a change shows as the lines it touches."""
    parts = []
    for title, cases in body.items():
        if isinstance(cases, dict):
            rows = ",\n".join(f"  {json.dumps(k)}: {json.dumps(v, ensure_ascii=False)}" for k, v in cases.items())
            parts.append(f' "{title}": {{\n{rows}\n }}')
        else:
            rows = ",\n".join(f"  {json.dumps(case, ensure_ascii=False)}" for case in cases)
            parts.append(f' "{title}": [\n{rows}\n ]')
    return "{\n" + ",\n".join(parts) + "\n}"


def signatures():
    owners = {
        "Qwen3ASRModel": (qwen_asr.Qwen3ASRModel, ASR_METHODS),
        "Qwen3ForcedAligner": (qwen_asr.Qwen3ForcedAligner, ALIGNER_METHODS),
    }
    found = {
        f"{name}.{method}": getattr(owner, method) for name, (owner, methods) in owners.items() for method in methods
    }
    found["parse_asr_output"] = qwen_asr.parse_asr_output
    return {
        name: [[p.name, p.kind.name, default(p.default)] for p in inspect.signature(function).parameters.values()]
        for name, function in found.items()
    }


def default(value):
    return "required" if value is inspect.Parameter.empty else repr(value)


def fields(kind):
    return {
        "frozen": kind.__dataclass_params__.frozen,
        "fields": [
            [f.name, "required" if f.default is dataclasses.MISSING else repr(f.default)]
            for f in dataclasses.fields(kind)
        ],
    }


def recorder(seen, backend="transformers"):
    """Return a model that notes what it is asked and answers with one word."""
    model = qwen_asr.Qwen3ASRModel(backend, SimpleNamespace(device="cpu", dtype="float32"), None)

    def infer(contexts, wavs, languages):
        seen.extend(zip(contexts, languages, strict=True))
        return ["word"] * len(wavs)

    model._infer_asr = infer
    return model


def outcome(function):
    try:
        return {"result": function()}
    except Exception as error:  # noqa: BLE001 - whatever it raises is the golden
        kinds = [kind.__name__ for kind in type(error).__mro__ if kind.__module__ == "builtins"]
        return {"error": kinds[0], "message": str(error)}


def call(n_audios, context, language):
    audio = (np.zeros(1600, np.float32), 16000)
    seen = []
    given = audio if n_audios is None else [audio] * n_audios
    found = outcome(lambda: len(recorder(seen).transcribe(given, context=context, language=language)))
    return {"n_audios": n_audios, "context": context, "language": language, "asked": seen} | found


def aligner_recorder(seen):
    """Return an aligner that notes what it is asked and stops there."""
    aligner = object.__new__(qwen_asr.Qwen3ForcedAligner)
    aligner.model = SimpleNamespace(get_support_languages=lambda: ["Chinese", "English", "German"])

    def note(text, language):
        seen.append((text, language))
        return [], ""

    def stop(**_):
        raise InterruptedError

    aligner.aligner_processor = SimpleNamespace(encode_timestamp=note)
    aligner.processor = stop
    return aligner


def alignment(n_audios, text, language):
    audio = (np.zeros(1600, np.float32), 16000)
    seen = []
    given = audio if n_audios is None else [audio] * n_audios
    found = outcome(lambda: aligner_recorder(seen).align(given, text=text, language=language))
    if found.get("error") == "InterruptedError":
        found = {}
    return {"n_audios": n_audios, "text": text, "language": language, "asked": seen} | found


class Template:
    """Renders the chat template's text as the released checkpoints do, and tokenizes by character."""

    def __init__(self):
        self.tokenizer = SimpleNamespace(
            encode=lambda text: [ord(c) for c in text], decode=lambda ids: "".join(map(chr, ids))
        )

    def apply_chat_template(self, messages, add_generation_prompt, tokenize):
        return f"<s>{messages[0]['content']}</s>"


def streaming_recorder(answers=()):
    model = recorder([], backend="vllm")
    model.processor = Template()
    waiting = list(answers)
    heard = []

    def generate(inputs, sampling_params, use_tqdm):
        heard.append([inputs[0]["prompt"], len(inputs[0]["multi_modal_data"]["audio"][0])])
        return [SimpleNamespace(outputs=[SimpleNamespace(text=waiting.pop(0))])]

    model.model = SimpleNamespace(generate=generate)
    return model, heard


def stream(arguments):
    def begin():
        state = streaming_recorder()[0].init_streaming_state(**arguments)
        return visible(state) | {"force_language": state.force_language, "context": state.context}

    return {"arguments": arguments} | outcome(begin)


def visible(state):
    return {
        "chunk_id": state.chunk_id,
        "chunk_size_samples": state.chunk_size_samples,
        "buffer": len(state.buffer),
        "audio_accum": len(state.audio_accum),
        "language": state.language,
        "text": state.text,
        "_raw_decoded": state._raw_decoded,
    }


def stream_steps():
    """Feed blocks of several sizes and types; keep the state after each, and what the model was asked."""
    answers = [
        "language English<asr_text>one",
        "language English<asr_text>one two",
        " two three",
        "hree four",
        "r five",
    ]
    model, heard = streaming_recorder(answers)
    state = model.init_streaming_state(chunk_size_sec=0.5, unfixed_chunk_num=2, unfixed_token_num=4)
    steps = []
    for n_samples, kind in [(0, "float32"), (3000, "float32"), (5000, "int16"), (20000, "float64"), (4500, "float32")]:
        block = (np.ones(n_samples) * (16384 if kind == "int16" else 0.5)).astype(kind)
        same = model.streaming_transcribe(block, state)
        steps.append({"n_samples": n_samples, "kind": kind, "same": same is state, "state": visible(state)})
    same = model.finish_streaming_transcribe(state)
    steps.append({"finish": True, "same": same is state, "state": visible(state)})
    again = visible(model.finish_streaming_transcribe(state))
    return {
        "steps": steps,
        "finish_again": again,
        "heard": heard,
        "answers": answers,
        "all_half": bool((state.audio_accum == 0.5).all()),
    }


if __name__ == "__main__":
    main()
