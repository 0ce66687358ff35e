"""The miniature checkpoint's corpus, training and layout: deterministic, separate from the tests, resumable."""

import itertools
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="the miniature's code needs torch")
pytest.importorskip("transformers", reason="the miniature's code needs transformers")

import torch
from safetensors import safe_open

from mini.__main__ import parse_args, run
from mini.language.vocabulary import Vocabulary, train_vocabulary, vocabulary_texts
from mini.speech.build import N_SHARDS, ShardJob, read_rows, render_shard
from mini.speech.clips import read_test_manifest, regenerate, samples
from mini.speech.features import filter_bank, log_mel, stretch_spectrum
from mini.speech.voices import SAMPLE_RATE, SpeechError, Voice, load_library, read_aloud
from mini.training.aligner_task import LONGEST_FIRST_FRAMES, SHORT_UNTIL, AlignerTask
from mini.training.batches import (
    CorpusReader,
    ExampleMaker,
    longest_frames,
    n_audio_tokens,
    pad_mels,
    plan_batches,
)
from mini.training.costs import LONGEST_TICK_S, RunningClock, measure, total_costs
from mini.training.curve import draw_curve
from mini.training.model import Dimensions, load_original, new_transcriber, read_dimensions, save_original
from mini.training.network import decode_layers, encode
from mini.training.train import Exchange, Trainer, TrainOptions, train

DATA = Path(__file__).resolve().parents[2] / "data"
LARGEST_CHECKPOINT_BYTES = 12_000_000
TINY = Dimensions(
    d_model=64, encoder_layers=1, encoder_ffn=128, conv_channels=4, hidden=64, decoder_layers=2, intermediate=128,
    heads=2, kv_heads=1, head_dim=32,
)  # fmt: skip


@pytest.fixture(scope="module")
def work(voices: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder with a corpus of 160 clips in four shards and a vocabulary."""
    folder = tmp_path_factory.mktemp("mini")
    (folder / "corpus").mkdir()
    for index in range(4):
        render_shard(ShardJob(folder / "corpus", 5, index, 40 * N_SHARDS))
    train_vocabulary(vocabulary_texts(read_rows(folder / "corpus")) * 20, folder / "vocabulary")
    return folder


@pytest.mark.program("voices")
def test_same_seed_gives_the_same_shard(tmp_path: Path) -> None:
    digests = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        digests.append(render_shard(ShardJob(tmp_path / name, 9, 1, 12 * N_SHARDS)))
    assert digests[0] == digests[1]
    mels = [np.load(tmp_path / name / "shard_01.npy") for name in ("first", "second")]
    np.testing.assert_array_equal(mels[0], mels[1])


@pytest.mark.program("voices")
def test_samples_are_regenerated_exactly() -> None:
    first, again = samples("unseen", 4), samples("unseen", 4)
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one.waveform, other.waveform)
        assert one.text == other.text


def test_missing_library_names_the_debian_package() -> None:
    with pytest.raises(SpeechError, match="apt-get install libflite1"):
        load_library(["libno-such-library.so.9"], "flite")


@pytest.mark.program("voices")
def test_missing_voice_names_the_debian_package() -> None:
    with pytest.raises(SpeechError, match=r"no voice 'xx-none'.*apt-get install espeak-ng-data"):
        read_aloud(["hello"], Voice("espeak-ng", "xx-none"))


@pytest.mark.program("voices")
def test_word_times_are_ordered_and_inside_the_clip(work: Path) -> None:
    for row in read_rows(work / "corpus"):
        edges = [edge for word in row["words"] for edge in word[2:4]]
        assert all(a <= b + 1e-3 for a, b in itertools.pairwise(edges)), row["text"]
        assert not edges or edges[-1] <= row["n_frames"] / 100 + 0.02


def test_mel_filters_and_lengths() -> None:
    assert float(filter_bank().sum()) == pytest.approx(3.1909855, abs=1e-5)
    assert log_mel(np.zeros(100, np.float32)).shape == (50, 128)
    np.testing.assert_allclose(log_mel(np.zeros(SAMPLE_RATE, np.float32)), -1.5, atol=1e-6)
    assert [n_audio_tokens(n) for n in (1, 9, 100, 101, 799, 800, 2999)] == [1, 2, 13, 14, 104, 104, 390]


def test_fast_forward_equals_the_native_one(work: Path) -> None:
    vocabulary = Vocabulary.load(work / "vocabulary")
    torch.manual_seed(0)
    model = new_transcriber(TINY, vocabulary).eval()
    rng = np.random.default_rng(0)
    lengths = [930, 60, 155, 800]
    mels = pad_mels([rng.standard_normal((n, 128)).astype(np.float32) for n in lengths])
    prompts = [vocabulary.prompt(n_audio_tokens(n), "") for n in lengths]
    ids = torch.zeros(len(lengths), max(map(len, prompts)), dtype=torch.long)
    mask, frames = torch.zeros_like(ids), torch.zeros(len(lengths), mels.shape[2], dtype=torch.long)
    for row, (prompt, n_frames) in enumerate(zip(prompts, lengths, strict=True)):
        ids[row, : len(prompt)], mask[row, : len(prompt)], frames[row, :n_frames] = torch.tensor(prompt), 1, 1
    with torch.inference_mode():
        native = model.model(input_ids=ids, attention_mask=mask, input_features=mels, input_features_mask=frames)
        audio = encode(model.model.audio_tower, mels, lengths)
        states = decode_layers(model.model, ids, audio, vocabulary.ids["<|audio_pad|>"])[-1]
    kept = mask.bool()
    torch.testing.assert_close(states[kept], native.last_hidden_state[kept], atol=2e-4, rtol=1e-3)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """As many threads as a process of a training run has."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


@pytest.mark.program("voices")
@pytest.mark.usefixtures("one_thread")
def test_training_resumes_where_it_stopped(work: Path, tmp_path: Path) -> None:
    weights = []
    for stops in ((6,), (3, 6)):
        folder = tmp_path / str(len(stops))
        shutil.copytree(work, folder)
        options = TrainOptions("transcriber", folder, 1, 6, warm_up=2, dims=TINY)
        for stop in stops:
            trainer = Trainer(0, options, Exchange(1))
            batches = trainer.task.plan(options.seed, options.n_steps, 1)
            while trainer.step < stop:
                trainer.update(batches[trainer.step][0][:4])
            trainer.save(0.0, 0.0)
        weights.append(torch.load(options.state_path, weights_only=True)["model"])
    for name, tensor in weights[0].items():
        torch.testing.assert_close(tensor, weights[1][name], atol=0, rtol=0)


class RecordedExchange(Exchange):
    """One process that keeps its gradient, or averages it with one that was kept."""

    def __init__(self, other: torch.Tensor | None = None) -> None:
        super().__init__(1)
        self.other = other

    def open(self, rank: int, n_values: int) -> None:
        """Share nothing."""

    def mean(self, pieces: list[torch.Tensor]) -> torch.Tensor:
        self.gradient = torch.cat([piece.float() for piece in pieces])
        return self.gradient.clone() if self.other is None else (self.gradient + self.other) / 2


@pytest.mark.slow
@pytest.mark.program("voices")
@pytest.mark.usefixtures("one_thread")
def test_two_processes_average_their_gradients(work: Path, tmp_path: Path) -> None:
    shutil.copytree(work, tmp_path / "work")
    options = TrainOptions("transcriber", tmp_path / "work", 1, 1, warm_up=2, dims=TINY)
    second = Trainer(1, options, other := RecordedExchange())
    rows = second.task.plan(options.seed, options.n_steps, 2)[0]
    second.update(rows[1])
    first = Trainer(0, options, RecordedExchange(other.gradient))
    first.update(rows[0])
    train(options)
    trained = torch.load(options.state_path, weights_only=True)["model"]
    for name, tensor in first.task.model.state_dict().items():
        torch.testing.assert_close(trained[name], tensor, atol=0, rtol=0)


@pytest.mark.program("voices")
def test_batches_cover_the_steps_and_respect_the_curriculum(work: Path) -> None:
    reader = CorpusReader(work / "corpus")
    steps = plan_batches(reader.rows, 1, 500, 2)
    assert len(steps) == 500
    assert all(len(ranks) == 2 and all(ranks) for ranks in steps)
    assert all(reader.rows[i]["n_frames"] < longest_frames(0, 500) for rank in steps[0] for i in rank)


def test_a_stage_without_the_one_before_names_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for stage, earlier in (("transcriber", "corpus"), ("aligner", "transcriber"), ("evaluate", "transcriber")):
        assert run(parse_args([stage, "--work", str(tmp_path / "work"), "--out", str(tmp_path / "out")])) == 1
        assert f"run the stage {earlier} first" in capsys.readouterr().err
    assert not (tmp_path / "work").exists()


def test_an_interrupted_transcriber_is_not_taken_for_a_finished_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"step": 15_000, "n_steps": 17_000}, tmp_path / "train.pt")
    assert run(parse_args(["aligner", "--work", str(tmp_path), "--out", str(tmp_path / "out")])) == 1
    assert "2000 steps short of its end: run the stage transcriber" in capsys.readouterr().err


def test_a_resumed_curve_has_every_step_once(tmp_path: Path) -> None:
    matplotlib = pytest.importorskip("matplotlib", reason="needs the sweep extra")
    logged = {"clean": [(100, 2.0), (200, 1.5), (300, 1.2)]}
    logged["resumed"] = [(100, 2.0), (200, 9.0), (300, 9.0), *logged["clean"][1:]]
    with matplotlib.rc_context({"svg.hashsalt": "the same ids in every file"}):
        for name, losses in logged.items():
            rows = "".join(f'{{"step": {step}, "ce": {loss}}}\n' for step, loss in losses)
            (tmp_path / f"{name}.jsonl").write_text(rows)
            draw_curve(tmp_path / f"{name}.jsonl", tmp_path / f"{name}.svg")
    assert (tmp_path / "resumed.svg").read_bytes() == (tmp_path / "clean.svg").read_bytes()


@pytest.mark.program("voices")
def test_examples_respell_rare_names_and_put_the_spelling_in_the_prompt(work: Path) -> None:
    maker = ExampleMaker(CorpusReader(work / "corpus"), Vocabulary.load(work / "vocabulary"))
    named = [row for row in maker.reader.rows if row["rare_name"]]
    for row in named[:5]:
        made = [maker.make(row, np.random.default_rng(seed)) for seed in range(12)]
        assert len({tuple(one.answer) for one in made}) > 1
        assert len({len(one.ids) - len(one.answer) - n_audio_tokens(len(one.mel)) for one in made}) > 1


def test_stretching_moves_a_peak_in_frequency_and_nothing_else() -> None:
    seconds = np.arange(16000) / 16000
    tones = {hz: log_mel(np.sin(2 * np.pi * hz * seconds).astype(np.float32)) for hz in (2000, 2160)}
    moved = stretch_spectrum(tones[2000], 1.08)
    assert moved.shape == tones[2000].shape
    assert moved.dtype == np.float32
    assert (moved[10:-10].argmax(1) == tones[2160][10:-10].argmax(1)).all()
    np.testing.assert_allclose(stretch_spectrum(tones[2000], 1.0), tones[2000], atol=1e-6)


@pytest.mark.program("voices")
@pytest.mark.usefixtures("one_thread")
def test_the_aligner_learns_short_clips_first(work: Path, tmp_path: Path) -> None:
    shutil.copytree(work, tmp_path / "work")
    transcriber = Trainer(0, TrainOptions("transcriber", tmp_path / "work", 1, 1, dims=TINY), Exchange(1))
    transcriber.save(0.0, 0.0)
    task = AlignerTask(tmp_path / "work", bf16=False)
    steps = task.plan(1, 100, 1)
    longest = [max(task.rows[i]["n_frames"] for i in ranks[0]) for ranks in steps]
    assert len(steps) == 100
    assert max(longest[: int(SHORT_UNTIL * 100)]) < LONGEST_FIRST_FRAMES < max(longest)


def test_costs_are_logged_for_every_attempt(tmp_path: Path) -> None:
    log = tmp_path / "work" / "costs.jsonl"
    with measure("corpus", log):
        pass
    with pytest.raises(SpeechError), measure("corpus", log):
        raise SpeechError("no voice")
    assert [json.loads(line)["stage"] for line in log.read_text(encoding="utf-8").splitlines()] == ["corpus"] * 2
    assert set(total_costs(log)) == {"corpus", "all"}


def test_time_in_which_the_process_stood_still_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter([False, False, False, True])
    times = iter([100.0, 101.0, 901.0, 902.0])  # stopped for 800 s after the second
    clock = RunningClock()
    monkeypatch.setattr(clock._done, "wait", lambda _: next(ticks))
    monkeypatch.setattr("mini.training.costs.time.monotonic", lambda: next(times))
    clock.run()
    assert clock.running_s == 1.0 + LONGEST_TICK_S + 1.0


@pytest.mark.program("voices")
def test_saved_checkpoint_has_the_original_layout(work: Path, tmp_path: Path) -> None:
    vocabulary = Vocabulary.load(work / "vocabulary")
    model = new_transcriber(TINY, vocabulary)
    save_original(model, TINY, vocabulary, work / "vocabulary", tmp_path)
    assert read_dimensions(tmp_path) == TINY
    again = load_original(tmp_path).state_dict()
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor.bfloat16().float(), again[name])


@pytest.mark.parametrize("name", ["mini-asr", "mini-aligner"])
def test_checked_in_checkpoint(name: str) -> None:
    folder = DATA / name
    if not folder.exists():
        pytest.skip(f"{folder} is not there: run 'make mini'")
    assert sum(path.stat().st_size for path in folder.iterdir()) <= LARGEST_CHECKPOINT_BYTES
    assert not (folder / "tokenizer.json").exists()
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert config["model_type"] == "qwen3_asr"
    assert config["thinker_config"]["dtype"] == "bfloat16"
    tokens = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))["added_tokens_decoder"]
    contents = {token["content"]: token["special"] for token in tokens.values()}
    assert contents["<asr_text>"] is False
    assert ("<timestamp>" in contents) == (name == "mini-aligner")
    with safe_open(folder / "model.safetensors", "pt") as file:
        assert all(key.startswith("thinker.") for key in file.keys())  # noqa: SIM118
        assert {file.get_tensor(key).dtype for key in file.keys()} == {torch.bfloat16}  # noqa: SIM118
        assert ("thinker.lm_head.weight" in file.keys()) == (name == "mini-aligner")  # noqa: SIM118
    dims = read_dimensions(folder)
    for width in (dims.d_model, dims.hidden, dims.encoder_ffn, dims.intermediate, dims.conv_channels * 16):
        assert width % 128 == 0


@pytest.mark.program("voices")
def test_manifest_rows_describe_what_is_regenerated() -> None:
    path = DATA / "mini-test-manifest.jsonl"
    if not path.exists():
        pytest.skip(f"{path} is not there: run 'make mini'")
    for set_name in ("seen", "unseen", "long", "nonspeech"):
        rows = read_test_manifest(path, set_name)
        assert len(rows) >= 300
        sample = regenerate(rows[11])
        assert sample.text == rows[11]["text"]
        assert len(sample.waveform) / SAMPLE_RATE == pytest.approx(rows[11]["duration_s"], abs=2e-3)
