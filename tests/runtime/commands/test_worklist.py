from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from qwen3_asr_onnx.commands.worklist import Destination, Job, find_sources, plan_jobs
from qwen3_asr_onnx.errors import OptionsError
from qwen3_asr_onnx.outputs.saving import write_atomically


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"audio")


def plan(inputs: list[str], destination: Destination) -> list[Job]:
    sources, unusable = find_sources(inputs)
    assert not unusable
    return plan_jobs(sources, destination)


def outputs(jobs: list[Job]) -> list[Path]:
    return [path for job in jobs for path in job.outputs.values()]


def test_a_directory_is_searched_in_order_without_hidden_files_and_other_kinds(tmp_path: Path) -> None:
    wanted = ["A.WAV", "b.mp3", "sub/deep/c.flac"]
    touch(*(tmp_path / name for name in [*wanted, ".hidden.wav", ".git/x.wav", "notes.txt", "sub/.DS_Store"]))
    sources, unusable = find_sources([str(tmp_path)])
    assert [Path(source.label).relative_to(tmp_path).as_posix() for source in sources] == wanted
    assert not unusable


def test_inputs_keep_their_order_and_a_named_file_may_have_any_suffix(tmp_path: Path) -> None:
    touch(tmp_path / "z.bin", tmp_path / "a.wav")
    sources, _ = find_sources([str(tmp_path / "z.bin"), str(tmp_path / "a.wav")])
    assert [source.audio for source in sources] == [tmp_path / "z.bin", tmp_path / "a.wav"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_a_pipe_can_be_named_and_is_not_found(tmp_path: Path) -> None:
    """Found in a folder it would be waited for; named, it is read, and like standard input has no place next to it."""
    os.mkfifo(tmp_path / "pipe.wav")
    assert find_sources([str(tmp_path)])[1][0].reason == "no audio file in this directory"
    (job,) = plan([str(tmp_path / "pipe.wav")], Destination(("txt",), tmp_path / "out"))
    assert list(job.outputs.values()) == [tmp_path / "out" / "pipe.txt"]
    with pytest.raises(OptionsError, match=r"pipe\.wav is not a file, so nothing can be saved next to it"):
        plan([str(tmp_path / "pipe.wav")], Destination(("txt",), None))


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_a_link_that_leads_nowhere_is_told_and_not_skipped(tmp_path: Path) -> None:
    (tmp_path / "a.wav").symlink_to(tmp_path / "gone.wav")
    for given in (tmp_path, tmp_path / "a.wav"):
        sources, (unusable,) = find_sources([str(given)])
        assert not sources
        assert unusable.label == str(tmp_path / "a.wav")
        assert unusable.reason == f"a link to {tmp_path / 'gone.wav'}, which does not exist"


def test_what_is_not_audio_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    missing = str(tmp_path / "missing.wav")
    sources, unusable = find_sources([str(tmp_path / "empty"), missing])
    assert not sources
    assert [(item.label, item.reason) for item in unusable] == [
        (str(tmp_path / "empty"), "no audio file in this directory"),
        (missing, "no such file or directory"),
    ]


def test_streams_are_passed_on_as_text_and_keep_secrets_out_of_labels() -> None:
    url = "https://user:password@example.com/a%20b/talk%2Fone.mp3?token=secret"
    data = "DATA:audio/wav;base64,UklGRg=="
    sources, unusable = find_sources(["-", data, url])
    assert not unusable
    assert [source.audio for source in sources] == ["-", data, url]
    assert [source.relative for source in sources] == [Path("stdin"), Path("data"), Path("one")]
    assert sources[2].label == "https://example.com/a%20b/talk%2Fone.mp3"


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("http://example.com", "example.com"),
        ("http://example.com/..%5C..%5Cevil.wav", ".._.._evil"),
        ("http://example.com/%2e%2e", ".."),
        ("http://example.com/a%00b.wav", "a_b"),
    ],
)
def test_a_url_cannot_name_a_file_outside_the_output_directory(url: str, name: str) -> None:
    (source,), _ = find_sources([url])
    assert source.relative.name == source.relative.as_posix()
    assert source.relative.name == name.lstrip(".") or source.relative.name == "audio"


def test_a_malformed_url_is_unusable() -> None:
    _, unusable = find_sources(["http://[::1/x.wav", "http://host:port/x.wav"])
    assert len(unusable) == 2


def test_stdin_twice_is_refused() -> None:
    with pytest.raises(OptionsError, match="only once"):
        find_sources(["-", "-"])


def test_output_directory_mirrors_a_given_directory(tmp_path: Path) -> None:
    touch(tmp_path / "in/x.wav", tmp_path / "in/sub/x.wav")
    jobs = plan([str(tmp_path / "in")], Destination(("txt", "srt"), tmp_path / "out"))
    names = [path.relative_to(tmp_path / "out").as_posix() for path in outputs(jobs)]
    assert names == ["x.txt", "x.srt", "sub/x.txt", "sub/x.srt"]


def test_saving_puts_results_next_to_their_input(tmp_path: Path) -> None:
    touch(tmp_path / "a/talk.2024.01.wav")
    jobs = plan([str(tmp_path / "a/talk.2024.01.wav")], Destination(("vtt",), None))
    assert outputs(jobs) == [tmp_path / "a/talk.2024.01.vtt"]


def test_saving_next_to_a_stream_is_refused() -> None:
    with pytest.raises(OptionsError, match="--output-dir"):
        plan(["-"], Destination(("txt",), None))


@pytest.mark.parametrize("names", [("a/x.wav", "b/x.wav"), ("a/x.wav", "a/x.mp3")])
def test_two_inputs_for_one_output_are_refused_by_name(tmp_path: Path, names: tuple[str, str]) -> None:
    paths = [tmp_path / name for name in names]
    touch(*paths)
    with pytest.raises(OptionsError) as caught:
        plan([str(path) for path in paths], Destination(("txt",), tmp_path / "out"))
    assert all(str(path) in str(caught.value) for path in paths)


def test_an_input_given_twice_is_done_once(tmp_path: Path) -> None:
    touch(tmp_path / "in/x.wav")
    inputs = [str(tmp_path / "in/x.wav"), str(tmp_path / "in"), str(tmp_path / "in/../in/x.wav")]
    assert len(plan(inputs, Destination(("txt",), tmp_path / "out"))) == 1


def test_an_input_is_never_replaced(tmp_path: Path) -> None:
    touch(tmp_path / "x.txt", tmp_path / "y.wav")
    for overwrite in (False, True):
        with pytest.raises(OptionsError, match="is an input"):
            plan([str(tmp_path / "x.txt")], Destination(("txt",), None, overwrite=overwrite))


def test_existing_outputs_need_a_decision(tmp_path: Path) -> None:
    touch(tmp_path / "a.wav", tmp_path / "b.wav", tmp_path / "a.txt", tmp_path / "b.txt")
    with pytest.raises(OptionsError, match=r"a\.txt and 1 more outputs exist; --resume .* --overwrite"):
        plan([str(tmp_path)], Destination(("txt",), None))
    assert len(plan([str(tmp_path)], Destination(("txt",), None, overwrite=True))) == 2
    assert plan([str(tmp_path)], Destination(("txt",), None, resume=True)) == []


def test_resuming_makes_only_the_formats_that_are_missing(tmp_path: Path) -> None:
    touch(tmp_path / "a.wav", tmp_path / "a.txt")
    jobs = plan([str(tmp_path)], Destination(("txt", "srt"), None, resume=True))
    assert outputs(jobs) == [tmp_path / "a.srt"]


@pytest.mark.parametrize(("name", "n_jobs"), [("txt", 0), ("srt", 0), ("vtt", 1), ("tsv", 1), ("json", 1)])
def test_resuming_takes_an_empty_file_for_silence_only_where_silence_is_empty(
    tmp_path: Path, name: str, n_jobs: int
) -> None:
    touch(tmp_path / "a.wav")
    (tmp_path / f"a.{name}").write_bytes(b"")
    assert len(plan([str(tmp_path / "a.wav")], Destination((name,), None, resume=True))) == n_jobs


def test_written_files_are_utf8_with_plain_newlines(tmp_path: Path) -> None:
    write_atomically(tmp_path / "new" / "x.txt", "你好\n\ud800\n")
    assert (tmp_path / "new" / "x.txt").read_bytes() == "你好\n\\ud800\n".encode()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no umask")
def test_written_files_get_ordinary_permissions(tmp_path: Path) -> None:
    write_atomically(tmp_path / "x.txt", "x")
    (tmp_path / "plain").write_text("x")
    assert (tmp_path / "x.txt").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_an_interrupted_write_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    (tmp_path / "x.txt").write_text("old")

    def interrupt(descriptor: int) -> None:
        raise error

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(type(error)):
        write_atomically(tmp_path / "x.txt", "new")
    assert [path.name for path in tmp_path.iterdir()] == ["x.txt"]
    assert (tmp_path / "x.txt").read_text() == "old"


def test_a_failed_write_names_the_file_that_was_wanted(tmp_path: Path) -> None:
    (tmp_path / "x.txt").mkdir()
    with pytest.raises(OSError, match=r"x\.txt'$"):
        write_atomically(tmp_path / "x.txt", "new")
    assert [path.name for path in tmp_path.iterdir()] == ["x.txt"]


def test_places_that_cannot_be_written_are_found_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path / "a.wav", tmp_path / "b.wav")
    (tmp_path / "b.srt").mkdir()
    with pytest.raises(OptionsError, match="is not a directory"):
        plan([str(tmp_path / "b.wav")], Destination(("txt",), tmp_path / "a.wav" / "sub"))
    for resume in (False, True):
        with pytest.raises(OptionsError, match="is a directory"):
            plan([str(tmp_path / "b.wav")], Destination(("srt",), None, resume=resume, overwrite=not resume))
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path)
    with pytest.raises(OptionsError, match="no permission"):
        plan([str(tmp_path / "a.wav")], Destination(("txt",), tmp_path / "new" / "deep"))
