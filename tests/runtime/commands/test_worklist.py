from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from qwen3_asr_onnx.commands import places, worklist
from qwen3_asr_onnx.commands.state import Records
from qwen3_asr_onnx.commands.worklist import Destination, Job, find_sources, plan_jobs, remove_leftovers
from qwen3_asr_onnx.errors import OptionsError
from qwen3_asr_onnx.outputs.saving import write_atomically
from qwen3_asr_onnx.transcription.identity import fingerprint
from qwen3_asr_onnx.transcription.journal import Journal, Place, holds_pieces


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"audio")


def plan(inputs: list[str], destination: Destination) -> list[Job]:
    sources, unusable = find_sources(inputs)
    assert not unusable
    return plan_jobs(sources, destination, Records())


def keep_a_piece(path: Path) -> None:
    with Journal(path) as journal:
        journal.begin({"input": None})
        journal.keep(Place(0, 16_000, "0" * 64), [])
    assert holds_pieces(path)


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
        ("http://example.com/AUX.wav", "_AUX"),
        ("http://example.com/com1.x.wav", "_com1.x"),
        ("http://example.com/console.wav", "console"),
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


@pytest.mark.parametrize("name", ["txt", "srt", "vtt", "tsv", "json"])
def test_an_empty_file_is_taken_for_silence_only_where_a_run_has_made_it(tmp_path: Path, name: str) -> None:
    touch(tmp_path / "a.wav")
    (tmp_path / f"a.{name}").write_bytes(b"")
    destination = Destination((name,), None, resume=True)
    (job,) = plan([str(tmp_path / "a.wav")], destination)
    assert job.stale == ()
    Records().note(tmp_path / f"a.{name}", fingerprint(tmp_path / "a.wav"))
    assert len(plan([str(tmp_path / "a.wav")], destination)) == (0 if name in ("txt", "srt") else 1)
    (tmp_path / f"a.{name}").write_bytes(b"text")
    Records().note(tmp_path / f"a.{name}", fingerprint(tmp_path / "a.wav"))
    assert plan([str(tmp_path / "a.wav")], destination) == []
    (tmp_path / f"a.{name}").write_bytes(b"")
    assert len(plan([str(tmp_path / "a.wav")], destination)) == 1, "there was text in it"


@pytest.mark.parametrize("noted", [True, False])
def test_a_result_of_another_recording_is_not_taken_for_done(tmp_path: Path, noted: bool) -> None:
    touch(tmp_path / "a.wav", tmp_path / "a.txt")
    destination = Destination(("txt", "srt"), None, resume=True)
    if noted:
        Records().note(tmp_path / "a.txt", fingerprint(tmp_path / "a.wav"))
    (job,) = plan([str(tmp_path / "a.wav")], destination)
    assert (list(job.outputs), job.stale) == (["srt"], ())
    (tmp_path / "a.wav").write_bytes(b"other")
    now_ns = (tmp_path / "a.txt").stat().st_mtime_ns
    os.utime(tmp_path / "a.wav", ns=(0, now_ns - 10**9 if noted else now_ns + 10**9))  # a note tells in any case
    (job,) = plan([str(tmp_path / "a.wav")], destination)
    assert (list(job.outputs), job.stale) == (["txt", "srt"], (tmp_path / "a.txt",))
    Records().note(tmp_path / "a.txt", fingerprint(tmp_path / "a.wav"))
    (job,) = plan([str(tmp_path / "a.wav")], destination)
    assert list(job.outputs) == ["srt"]


def test_notes_that_are_damaged_or_cannot_be_written_are_as_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path / "a.wav", tmp_path / "a.txt", tmp_path / "file")
    monkeypatch.setenv("QWEN3_ASR_HOME", str(tmp_path / "home"))
    records = tmp_path / "home" / "state" / "results.txt"
    records.parent.mkdir(parents=True)
    records.write_bytes(b"\xff\x00 torn\nthree words here\nhalf")
    assert Records().is_of(tmp_path / "a.txt", tmp_path / "a.wav")
    monkeypatch.setenv("QWEN3_ASR_HOME", str(tmp_path / "file"))
    Records().note(tmp_path / "a.txt", {"size": 1})
    assert Records().is_of(tmp_path / "a.txt", tmp_path / "a.wav")


def test_what_is_kept_of_an_input_is_neither_forgotten_nor_taken_for_done(tmp_path: Path) -> None:
    touch(tmp_path / "a.wav")
    keep_a_piece(tmp_path / "a.partial.jsonl")
    inputs = [str(tmp_path / "a.wav")]
    with pytest.raises(OptionsError, match=r"a\.partial\.jsonl exists; --resume .* --overwrite"):
        plan(inputs, Destination(("txt",), None))
    assert len(plan(inputs, Destination(("txt",), None, overwrite=True))) == 1
    (job,) = plan(inputs, Destination(("txt",), None, resume=True))
    assert job.journal.path == tmp_path / "a.partial.jsonl"
    # A run that was to replace a result was killed: the result is not what was asked for last.
    touch(tmp_path / "a.txt")
    os.utime(tmp_path / "a.txt", (1, 1))
    os.utime(tmp_path / "a.wav", (1, 1))
    assert len(plan(inputs, Destination(("txt",), None, resume=True))) == 1
    os.utime(tmp_path / "a.partial.jsonl", (1, 1))
    assert plan(inputs, Destination(("txt",), None, resume=True)) == []
    # Nothing was finished: nothing is in the way.
    (tmp_path / "a.txt").unlink()
    (tmp_path / "a.partial.jsonl").write_bytes(b"")
    assert len(plan(inputs, Destination(("txt",), None))) == 1


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


def test_names_that_are_too_long_are_found_before_the_work(tmp_path: Path) -> None:
    limit = os.pathconf(tmp_path, "PC_NAME_MAX") if hasattr(os, "pathconf") else 255
    longest, too_long = "ü" * ((limit - 4) // 2) + ".wav", "x" * (limit - 4) + ".wav"
    touch(tmp_path / longest, tmp_path / too_long)
    (job,) = plan([str(tmp_path / longest)], Destination(("txt",), None))
    for path in (*job.outputs.values(), job.journal.path):
        write_atomically(path, "x")
    assert len(list(tmp_path.iterdir())) == 4
    with pytest.raises(OptionsError, match=rf"has {limit + 1} bytes, a name may have {limit} there"):
        plan([str(tmp_path / too_long)], Destination(("json",), tmp_path / "new"))
    with pytest.raises(OptionsError, match="cannot be written"):
        plan([str(tmp_path / longest)], Destination(("txt",), tmp_path.joinpath(*["d" * 200] * 30)))


def test_the_name_of_a_url_has_an_end(tmp_path: Path) -> None:
    long = "x" * 1000
    jobs = plan([f"http://host/{long}1.wav", f"http://host/{long}2.wav"], Destination(("txt",), tmp_path))
    assert [len(path.name) for path in outputs(jobs)] == [104, 104]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_names_that_are_no_utf8(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.wav")
    touch(tmp_path / name)
    (job,) = plan([str(tmp_path / name)], Destination(("txt",), tmp_path / "out"))
    write_atomically(job.outputs["txt"], "x")
    keep_a_piece(job.journal.path)
    assert sorted(os.listdir(os.fsencode(tmp_path / "out"))) == [b"caf\xe9.partial.jsonl", b"caf\xe9.txt"]  # noqa: PTH208


@pytest.mark.parametrize("names", [("a/Talk.wav", "b/talk.wav"), ("a/caf\u00e9.wav", "b/cafe\u0301.wav")])
def test_names_that_the_disk_may_not_tell_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: tuple[str, str]
) -> None:
    touch(*(tmp_path / name for name in names))
    inputs = [str(tmp_path / name) for name in (*names, names[1])]
    monkeypatch.setattr(worklist, "tells_case_apart", lambda path: True)
    assert len(plan(inputs, Destination(("txt",), tmp_path / "out"))) == 2
    monkeypatch.setattr(worklist, "tells_case_apart", lambda path: False)
    with pytest.raises(OptionsError, match="would both write"):
        plan(inputs, Destination(("txt",), tmp_path / "out"))


def test_a_disk_is_asked_whether_it_tells_case_apart(tmp_path: Path) -> None:
    (tmp_path / "x").touch()
    assert places.tells_case_apart(tmp_path / "new" / "a.txt") != (tmp_path / "X").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_a_link_to_nowhere_is_no_directory(tmp_path: Path) -> None:
    touch(tmp_path / "a.wav")
    (tmp_path / "out").symlink_to(tmp_path / "nowhere")
    with pytest.raises(OptionsError, match="is not a directory"):
        plan([str(tmp_path / "a.wav")], Destination(("txt",), tmp_path / "out"))


HELD = """
import sys
from pathlib import Path
from qwen3_asr_onnx.outputs import saving

def hold(descriptor):
    print("held", flush=True)
    sys.stdin.read()

saving.os.fsync = hold
saving.write_atomically(Path("x.txt"), "whole")
"""


def test_files_of_killed_runs_go_and_those_of_living_ones_stay(tmp_path: Path) -> None:
    touch(tmp_path / "a.wav", tmp_path / ".qwen3-asr-onnx-nothex00.tmp", tmp_path / "a.txt", tmp_path / "b.partial.txt")
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", HELD]
    killed, living = (subprocess.Popen(command, cwd=tmp_path, stdin=pipe, stdout=pipe) for _ in range(2))
    with killed, living:
        for process in (killed, living):
            assert process.stdout is not None
            assert process.stdout.readline().strip() == b"held"
        killed.kill()
        killed.wait()
        assert len(list(tmp_path.glob(".qwen3*"))) == 3
        sources, _ = find_sources([str(tmp_path / "a.wav")])
        remove_leftovers(sources, Destination(("txt",), None, resume=True), Records())
        assert len(list(tmp_path.glob(".qwen3*"))) == 2
        living.communicate(b"")
        assert living.returncode == 0
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"a.wav", ".qwen3-asr-onnx-nothex00.tmp", "a.txt", "b.partial.txt", "x.txt"}


def test_a_journal_that_a_killed_run_left_beside_the_result_goes(tmp_path: Path) -> None:
    touch(tmp_path / "a.wav", tmp_path / "a.txt")
    journal = tmp_path / "a.partial.jsonl"
    keep_a_piece(journal)
    sources, _ = find_sources([str(tmp_path / "a.wav")])
    resumed = Destination(("txt",), None, resume=True)
    os.utime(tmp_path / "a.wav", (1, 1))
    os.utime(tmp_path / "a.txt", (2, 2))
    remove_leftovers(sources, resumed, Records())
    assert journal.exists(), "it is younger than the result: of a run that was to replace that"
    os.utime(journal, (1, 1))
    remove_leftovers(sources, Destination(("txt", "srt"), None, resume=True), Records())
    assert journal.exists(), "another format can be made of it"
    remove_leftovers(sources, Destination(("txt",), None, overwrite=True), Records())
    assert journal.exists()
    remove_leftovers(sources, resumed, Records())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt", "a.wav"]
    journal.write_text("notes of somebody", encoding="utf-8")
    os.utime(journal, (1, 1))
    remove_leftovers(sources, resumed, Records())
    assert journal.exists()
