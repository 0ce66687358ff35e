"""What is finished of an input outlives its run: kept piece by piece, taken up for the same samples only."""

from __future__ import annotations

import json
import os
import shutil
import threading
import warnings
import wave
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.support.clips import SAMPLE_RATE, synthetic_clip

from qwen3_asr_onnx import TranscribeOptions, Transcriber, Transcript
from qwen3_asr_onnx.arrays import Waveform
from qwen3_asr_onnx.model.batch import Batch
from qwen3_asr_onnx.results import Segment, Timings, Word
from qwen3_asr_onnx.transcription import identity
from qwen3_asr_onnx.transcription.identity import fingerprint
from qwen3_asr_onnx.transcription.journal import Journal, JournalWarning, Place, holds_pieces

SECONDS = 13.0
OPTIONS = TranscribeOptions(language="English", max_new_tokens=8, max_segment_s=3.0, batch_size=3)


def write_wav(path: Path, samples: Waveform) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(np.round(samples * 32_767).astype("<i2").tobytes())
    return path


@pytest.fixture(scope="module")
def samples() -> Waveform:
    return synthetic_clip(SECONDS)


@pytest.fixture
def recording(samples: Waveform, tmp_path: Path) -> Path:
    return write_wav(tmp_path / "a.wav", samples)


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The first samples of the pieces that a model was asked about."""
    asked: list[int] = []
    add = Batch.add

    def watched(self: Batch[Any], key: Any, *args: Any, **kwargs: Any) -> None:
        asked.append(key.clip.start_sample)
        add(self, key, *args, **kwargs)

    monkeypatch.setattr(Batch, "add", watched)
    return asked


def without_timings(transcript: Transcript) -> Transcript:
    segments = tuple(replace(segment, timings=Timings()) for segment in transcript.segments)
    return replace(transcript, segments=segments, timings=Timings())


def same_words(one: Transcript, other: Transcript) -> bool:
    """Compare all but the last digits of probabilities, which the sums of larger batches round differently."""
    fields = [[(s.start_s, s.end_s, s.text, s.token_ids, s.stop_reason) for s in t.segments] for t in (one, other)]
    return one.text == other.text and fields[0] == fields[1]


def cut_short(asr: Transcriber, audio: Any, path: Path, n_pieces: int, options: TranscribeOptions = OPTIONS) -> int:
    """Run until so many pieces are in the journal; return how many it holds."""
    cancel = threading.Event()
    journal = Journal(path)
    keep = journal.keep
    kept: list[Place] = []

    def watched(place: Place, segments: list[Segment]) -> None:
        keep(place, segments)
        kept.append(place)
        if len(kept) >= n_pieces:
            cancel.set()

    journal.keep = watched  # type: ignore[method-assign, assignment]
    result = asr.transcribe(audio, options, cancel=cancel, journal=journal)
    assert result.stop_reason == "cancelled"
    journal.close()
    return len(kept)


@pytest.mark.parametrize("n_pieces", [1, 3])
def test_another_run_goes_on_inside_the_file(
    asr: Transcriber, recording: Path, tmp_path: Path, heard: list[int], n_pieces: int
) -> None:
    path = tmp_path / "a.partial.jsonl"
    whole = asr.transcribe(recording, OPTIONS)
    n_whole = len(heard)
    heard.clear()
    n_kept = cut_short(asr, recording, path, n_pieces)
    assert holds_pieces(path)
    heard.clear()
    journal = Journal(path)
    again = asr.transcribe(recording, OPTIONS, journal=journal)
    assert same_words(again, whole)
    assert len(heard) == n_whole - n_kept, "what is finished is not heard again"
    assert 0 < journal.recalled_s < journal.kept_s == pytest.approx(SECONDS)
    journal.close()
    heard.clear()
    with Journal(path) as journal:
        assert without_timings(asr.transcribe(recording, OPTIONS, journal=journal)) == without_timings(again)
    assert heard == [], "killed between the last piece and the result"


def test_what_is_whole_goes_and_one_piece_leaves_no_file(asr: Transcriber, recording: Path, tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "a.partial.jsonl"
    with Journal(path) as journal:
        asr.transcribe(synthetic_clip(2.0), OPTIONS, journal=journal)
        assert not path.parent.exists()
    with Journal(path) as journal:
        seen = []
        for segment in asr.iter_segments(recording, OPTIONS, journal=journal):
            seen.append(segment)
            assert path.exists()
        assert journal.kept_s == pytest.approx(seen[-1].end_s)
        journal.remove()
        assert not path.exists()


def test_many_inputs_have_a_journal_each(asr: Transcriber, samples: Waveform, tmp_path: Path, heard: list[int]) -> None:
    paths = [tmp_path / f"{name}.jsonl" for name in "ab"]
    audios = [samples, samples[::-1].copy()]
    expected = list(asr.transcribe_many(audios, OPTIONS))
    kept = [Journal(path) for path in paths]
    list(asr.transcribe_many(audios, OPTIONS, journals=[kept[0], None]))
    kept[0].close()
    assert [path.exists() for path in paths] == [True, False]
    heard.clear()
    kept = [Journal(path) for path in paths]
    again = list(asr.transcribe_many(audios, OPTIONS, journals=kept))
    for journal in kept:
        journal.close()
    assert all(map(same_words, again, expected))
    assert len(heard) == len(expected[1].segments)
    with pytest.raises(ValueError, match="shorter"):
        list(asr.transcribe_many(audios, OPTIONS, journals=[None]))


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"language": "German"}, "an option that decides on the text"),
        ({"context": "Zürich"}, "an option that decides on the text"),
        ({"max_new_tokens": 7}, "an option that decides on the text"),
        ({"max_segment_s": 4.0}, "an option that decides on the text"),
        ({"batch_size": 1, "time_limit_s": 1e6}, ""),
    ],
)
def test_another_option_begins_anew_and_says_so(
    asr: Transcriber, recording: Path, tmp_path: Path, change: dict[str, Any], what: str
) -> None:
    path = tmp_path / "a.jsonl"
    cut_short(asr, recording, path, 2)
    options = replace(OPTIONS, **change)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        with Journal(path) as journal:
            result = asr.transcribe(recording, options, journal=journal)
    assert [str(one.message) for one in told] == (
        [f"{what} has changed since an earlier run kept a part of it; begun anew"] if what else []
    )
    assert bool(journal.recalled_s) == (not what)
    assert same_words(result, asr.transcribe(recording, options))


def test_what_is_kept_stays_until_there_is_something_new(tmp_path: Path) -> None:
    path, place = tmp_path / "a.jsonl", Place(0, 16_000, "0" * 64)
    with Journal(path) as journal:
        journal.begin({"options": "right"})
        journal.keep(place, [])
    with Journal(path) as journal, pytest.warns(JournalWarning, match="begun anew"):
        journal.begin({"options": "mistyped"})
    with Journal(path) as journal:
        journal.begin({"options": "right"})
        assert journal.recall(place) == []
    with Journal(path, anew=True) as journal:
        journal.begin({"options": "right"})
        assert journal.recall(place) is None
        journal.keep(replace(place, start_sample=16_000), [])
    with Journal(path) as journal:
        journal.begin({"options": "right"})
        assert journal.recall(place) is None
        assert journal.recall(replace(place, start_sample=16_000)) == []


def test_another_recording_or_model_begins_anew_and_says_so(
    asr: Transcriber, tiny_bundle: Path, recording: Path, samples: Waveform, tmp_path: Path
) -> None:
    path = tmp_path / "a.jsonl"
    cut_short(asr, recording, path, 2)
    write_wav(recording, samples[::-1])
    with Journal(path) as journal, pytest.warns(JournalWarning, match="^the recording has changed"):
        result = asr.transcribe(recording, OPTIONS, journal=journal)
    assert journal.recalled_s == 0.0
    assert same_words(result, asr.transcribe(recording, OPTIONS))

    path.unlink()
    cut_short(asr, recording, path, 2)
    other = Path(shutil.copytree(tiny_bundle, tmp_path / "other"))
    manifest = json.loads((other / "config.json").read_text(encoding="utf-8"))
    manifest["name"] = "fine-tuned"
    (other / "config.json").write_text(json.dumps(manifest), encoding="utf-8")
    with Transcriber(other) as tuned, Journal(path) as journal:
        with pytest.warns(JournalWarning, match="^the model has changed"):
            tuned.transcribe(recording, OPTIONS, journal=journal)
        assert journal.recalled_s == 0.0


def test_the_time_of_a_file_is_part_of_what_it_is(recording: Path) -> None:
    before = fingerprint(recording)
    os.utime(recording, ns=(1, before["mtime_ns"] + 1))
    assert fingerprint(recording) != before
    assert fingerprint(recording)["ends_sha256"] == before["ends_sha256"]


@pytest.mark.parametrize("at", [0, 999, 1000, 1999, 2500, -1])
def test_a_fingerprint_covers_both_ends(tmp_path: Path, at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "END_BYTES", 1000)
    path = tmp_path / "file"
    content = bytearray(3500)
    path.write_bytes(content)
    before = fingerprint(path)["ends_sha256"]
    content[at] = 1
    path.write_bytes(content)
    assert (fingerprint(path)["ends_sha256"] != before) == (at not in (1000, 1999))
    for n_bytes in (0, 1, 1500):
        path.write_bytes(bytes(n_bytes))
        assert fingerprint(path)["size"] == n_bytes


def test_audio_without_a_file_is_known_by_its_samples(
    asr: Transcriber, samples: Waveform, tmp_path: Path, heard: list[int]
) -> None:
    path = tmp_path / "stdin.jsonl"
    n_kept = cut_short(asr, samples, path, 3)
    heard.clear()
    longer = np.concatenate([samples, synthetic_clip(4.0, seed=1)])
    with Journal(path) as journal:
        result = asr.transcribe(longer, OPTIONS, journal=journal)
    assert len(heard) == len(result.segments) - n_kept
    path.unlink()
    cut_short(asr, samples, path, 3)
    with (
        pytest.warns(JournalWarning, match="at 0.0 s is not what an earlier run heard") as told,
        Journal(path) as journal,
    ):
        other = asr.transcribe(samples * np.float32(0.5), OPTIONS, journal=journal)
    assert len(told) == 1
    assert journal.recalled_s == 0.0
    assert same_words(other, asr.transcribe(samples * np.float32(0.5), OPTIONS))


@pytest.mark.parametrize("lost", [1, 40, 10**9])
def test_a_torn_last_line_costs_that_piece(
    asr: Transcriber, recording: Path, tmp_path: Path, heard: list[int], lost: int
) -> None:
    path = tmp_path / "a.jsonl"
    n_kept = cut_short(asr, recording, path, 3)
    lines = path.read_bytes().splitlines(keepends=True)
    torn = lines[-1][: max(1, len(lines[-1]) - lost)]
    path.write_bytes(b"".join(lines[:-1]) + torn)
    heard.clear()
    with Journal(path) as journal:
        result = asr.transcribe(recording, OPTIONS, journal=journal)
    assert len(heard) == len(result.segments) - (n_kept - 1)
    assert same_words(result, asr.transcribe(recording, OPTIONS))
    with Journal(path) as journal:
        assert same_words(asr.transcribe(recording, OPTIONS, journal=journal), result)
    assert journal.recalled_s == pytest.approx(SECONDS), "what was written behind it can be read"


@pytest.mark.parametrize("content", [b"", b'{"qwen3-', b'{"qwen3-asr-onnx journal":1,"inp'])
def test_a_torn_first_line_is_no_journal_yet(asr: Transcriber, recording: Path, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(content)
    assert not holds_pieces(path)
    with Journal(path) as journal:
        asr.transcribe(recording, OPTIONS, journal=journal)
    assert journal.kept_s == pytest.approx(SECONDS)
    assert holds_pieces(path)


def test_zeros_of_a_power_cut_are_no_pieces(asr: Transcriber, recording: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    cut_short(asr, recording, path, 2)
    with path.open("ab") as file:
        file.write(bytes(500) + b"\n" + b'{"start_sample":0}\n[]\n')
    with Journal(path) as journal:
        result = asr.transcribe(recording, OPTIONS, journal=journal)
    assert 0 < journal.recalled_s < SECONDS
    assert same_words(result, asr.transcribe(recording, OPTIONS))


def test_a_file_of_somebody_else_stays(asr: Transcriber, recording: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": "b"}\n', encoding="utf-8")
    with Journal(path, anew=True) as journal:
        with pytest.warns(JournalWarning, match="no journal"):
            asr.transcribe(recording, OPTIONS, journal=journal)
        journal.remove()
    assert path.read_text(encoding="utf-8") == '{"a": "b"}\n'


def test_the_journal_of_a_living_run_stays(asr: Transcriber, recording: Path, tmp_path: Path) -> None:
    pytest.importorskip("fcntl", reason="needs locks")
    path = tmp_path / "a.jsonl"
    with Journal(path) as living:
        segments = asr.iter_segments(recording, OPTIONS, journal=living)
        next(segments)
        before = path.read_bytes()
        with Journal(path, anew=True) as journal:
            with pytest.warns(JournalWarning, match="another run is at work"):
                asr.transcribe(recording, OPTIONS, journal=journal)
            journal.remove()
        assert path.read_bytes() == before
        assert len(list(segments)) > 1


def test_nothing_is_said_of_a_shared_journal_that_cannot_be_had(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with Journal(tmp_path / "file" / "a.jsonl", anew=True, shared=True) as journal:
        journal.begin({"input": None})
        journal.keep(Place(0, 16_000, ""), [])
        assert not journal.is_on_disk
    with Journal(tmp_path / "file" / "a.jsonl", shared=True) as journal:
        journal.begin({"input": None})
        with pytest.warns(JournalWarning, match="cannot be kept"):
            journal.keep(Place(0, 16_000, ""), [])
    pytest.importorskip("fcntl", reason="needs locks")
    path = tmp_path / "a.jsonl"
    with Journal(path, shared=True) as living, Journal(path, shared=True) as other:
        living.begin({"input": None})
        living.keep(Place(0, 16_000, ""), [])
        other.begin({"input": None})
        other.keep(Place(0, 16_000, ""), [])
        assert (living.is_on_disk, other.is_on_disk) == (True, False)


def test_anew_forgets(asr: Transcriber, recording: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    cut_short(asr, recording, path, 2)
    with Journal(path, anew=True) as journal:
        asr.transcribe(recording, OPTIONS, journal=journal)
    assert journal.recalled_s == 0.0
    assert journal.kept_s == pytest.approx(SECONDS)


def test_what_cannot_be_kept_costs_no_text(
    asr: Transcriber, recording: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"")
    with (
        pytest.warns(JournalWarning, match="cannot be kept") as told,
        Journal(tmp_path / "file" / "a.jsonl") as journal,
    ):
        result = asr.transcribe(recording, OPTIONS, journal=journal)
    assert len(told) == 1
    assert same_words(result, asr.transcribe(recording, OPTIONS))

    def full(self: Journal, line: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Journal, "_write", full)
    with Journal(tmp_path / "b.jsonl") as journal, pytest.warns(JournalWarning, match="No space left"):
        assert same_words(result, asr.transcribe(recording, OPTIONS, journal=journal))
    assert journal.kept_s == 0.0


def test_segments_come_back_as_they_went(tmp_path: Path) -> None:
    word = Word("Łódź,", 0.1, 0.30000000000000004, 0.5, ("plateau", "zero_length"), "Łódź", False, 3)
    segments = [
        Segment(
            0.0, 1 / 3, "x\udc80\u2028y", "English", (1, 2), "eos", -0.1, (-0.1, -0.2), 0.9, True, Timings(mel_s=0.1)
        ),
        Segment(1 / 3, 1.0, "", "", (), "no_speech", 0.0, words=(word,), n_logprobs=1),
    ]
    path, place = tmp_path / "a.jsonl", Place(0, 16_000, "0" * 64)
    with Journal(path) as journal:
        journal.begin({"input": None})
        journal.keep(place, segments)
    with Journal(path) as journal:
        journal.begin({"input": None})
        assert journal.recall(place) == segments
        assert journal.recall(replace(place, start_sample=16_000)) is None


def test_pieces_behind_one_that_is_not_finished_are_kept_too(
    asr: Transcriber, recording: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rows of a batch end in any order."""
    run = Batch.run

    def last_first(self: Batch[Any], interrupt: Any) -> list[Any]:
        if self.n_active > 1 and self._rows[-1] is not None and self._rows[-1].end is None:
            self._rows[-1].end = "limit"
        return run(self, interrupt)

    monkeypatch.setattr(Batch, "run", last_first)
    path = tmp_path / "a.jsonl"
    cut_short(asr, recording, path, 2)
    lines = [json.loads(line) for line in path.read_bytes().splitlines()[1:]]
    assert [line["start_sample"] > 0 for line in lines[:2]] == [True, True]
    monkeypatch.undo()
    with Journal(path) as journal:
        result = asr.transcribe(recording, OPTIONS, journal=journal)
    assert journal.recalled_s > 0
    starts = [segment.start_s for segment in result.segments]
    assert starts == sorted(starts)
    assert len(set(starts)) == len(starts)
