"""Files that were joined, cut or written to a pipe: nothing of them is lost without a word."""

from __future__ import annotations

import io
import re
import struct
import subprocess
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from tests.support.clips import synthetic_clip
from tests.support.programs import find

from qwen3_asr_onnx import AudioError, TruncatedAudioWarning, load_audio
from qwen3_asr_onnx.audio import formats
from qwen3_asr_onnx.audio.containers import read_layout
from qwen3_asr_onnx.audio.loading import probe_duration

soundfile = pytest.importorskip("soundfile", reason="needs the audio extra")

FAULTS = Path(__file__).parents[2] / "data" / "faults"
SPEECH = Path(__file__).parents[2] / "data" / "audio"
RATE = 16_000
SECONDS = 4.5
TOLERATED_S = 0.15

FORMATS = {
    "wav": ("WAV", "PCM_16"), "wav mu-law": ("WAV", "ULAW"), "wav ADPCM": ("WAV", "IMA_ADPCM"),
    "rf64": ("RF64", "PCM_16"),
    "aiff": ("AIFF", "PCM_16"), "au": ("AU", "PCM_24"), "w64": ("W64", "PCM_16"), "voc": ("VOC", "PCM_16"),
    "svx": ("SVX", "PCM_16"), "sphere": ("NIST", "PCM_16"), "avr": ("AVR", "PCM_16"), "flac": ("FLAC", "PCM_16"),
    "vorbis": ("OGG", "VORBIS"), "opus": ("OGG", "OPUS"), "mp3": ("MP3", "MPEG_LAYER_III"),
}  # fmt: skip
JOINED = ("wav", "rf64", "aiff", "au", "svx", "flac", "vorbis", "opus", "mp3")


def encoded(kind: str, samples: npt.NDArray[np.float32]) -> bytes:
    container, codec = FORMATS[kind]
    file = io.BytesIO()
    soundfile.write(file, samples, RATE, format=container, subtype=codec)
    return file.getvalue()


def read(content: bytes) -> tuple[float, list[str]]:
    """Return the seconds that could be read, and the warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        seconds = len(load_audio(content)) / RATE
    return seconds, [str(one.message) for one in caught]


def load_audio_quietly(content: bytes) -> npt.NDArray[np.float32]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return load_audio(content)


@pytest.mark.parametrize("kind", FORMATS)
def test_a_cut_file_is_never_silently_short(kind: str) -> None:
    whole = encoded(kind, synthetic_clip(SECONDS))
    whole_s, said = read(whole)
    assert whole_s == pytest.approx(SECONDS, abs=0.06)
    assert said == []
    for cut in np.random.default_rng(0).integers(len(whole) // 20, len(whole) - 1, 12):
        try:
            seconds, said = read(whole[:cut])
        except AudioError:
            continue
        assert said or seconds > SECONDS - TOLERATED_S, cut


BY_FFMPEG = {
    "avi": "libmp3lame", "asf": "wmav2", "mpeg": "mp2", "matroska": "aac", "mpegts": "aac", "adts": "aac",
    "mp4": "aac", "wv": "wavpack", "ac3": "ac3", "flv": "aac",
}  # fmt: skip


@pytest.mark.program("ffmpeg")
@pytest.mark.parametrize("container", BY_FFMPEG)
def test_a_cut_file_of_another_container_is_not_either(container: str, tmp_path: Path) -> None:
    program = find("ffmpeg")
    assert program is not None
    made = tmp_path / "made"
    raw = ["-f", "f32le", "-ar", "44100", "-ac", "1", "-i", "-"]
    command = [program, "-v", "error", *raw, "-c:a", BY_FFMPEG[container], "-f", container, str(made)]
    subprocess.run(command, input=synthetic_clip(SECONDS * 2.75625).tobytes(), check=True)
    whole = made.read_bytes()
    whole_s, said = read(whole)
    assert whole_s == pytest.approx(SECONDS, abs=0.15)
    assert said == []
    for cut in np.random.default_rng(0).integers(len(whole) // 20, len(whole) - 1, 5):
        try:
            seconds, said = read(whole[:cut])
        except AudioError:
            continue
        assert said or seconds > SECONDS - TOLERATED_S, cut


def damaged_in_the_middle(kind: str) -> bytes:
    content = encoded(kind, synthetic_clip(SECONDS))
    middle = len(content) // 2
    return content[:middle] + np.random.default_rng(0).bytes(2_000) + content[middle + 2_000 :]


@pytest.mark.program("ffmpeg")
@pytest.mark.parametrize("kind", ["flac", "mp3"])
def test_behind_a_damage_ffmpeg_reads_on(kind: str) -> None:
    seconds, (said,) = read(damaged_in_the_middle(kind))
    assert seconds > SECONDS - 1.0
    assert re.search(r" at \d\.\d\d s", said)
    whole, found = load_audio(encoded(kind, synthetic_clip(SECONDS))), load_audio_quietly(damaged_in_the_middle(kind))
    np.testing.assert_array_equal(found[:RATE], whole[:RATE])
    loud = whole[-2 * RATE :]  # decoders differ by some samples of delay
    likeness = np.correlate(found[-3 * RATE :], loud, "valid").max() / np.square(loud).sum()
    assert likeness == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize("kind", ["flac", "mp3"])
def test_without_it_the_place_of_the_damage_is_told(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "find_ffmpeg", lambda: None)
    seconds, (said,) = read(damaged_in_the_middle(kind))
    assert 0.5 < seconds < SECONDS / 2
    assert f" at {seconds:.2f} s" in said


def test_a_damaged_position_in_an_ogg_file_is_not_believed() -> None:
    content = bytearray(encoded("opus", synthetic_clip(SECONDS)))
    page = content.index(b"OggS", len(content) // 2)
    content[page + 12] ^= 0x40  # 2^54 samples on
    following = content.index(b"OggS", page + 4)
    content[following : following + 4] = b"gone"
    _, (said,) = read(bytes(content))
    (at_s,) = re.findall(r"at (\d+\.\d+) s", said)
    assert float(at_s) < SECONDS


@pytest.mark.parametrize("kind", JOINED)
def test_joined_files_are_read_to_the_end(kind: str) -> None:
    one, other = encoded(kind, synthetic_clip(2.0, 1)), encoded(kind, synthetic_clip(3.0, 2))
    seconds, said = read(one + other)
    assert seconds == pytest.approx(5.0, abs=0.15)
    assert said == []
    joined = load_audio(one + other)
    np.testing.assert_array_equal(joined[: RATE * 3 // 2], load_audio(one)[: RATE * 3 // 2])


@pytest.mark.parametrize("kind", ["wav", "flac", "vorbis"])
def test_what_cannot_be_joined_is_named(kind: str) -> None:
    container, codec = FORMATS[kind]
    other = io.BytesIO()
    soundfile.write(other, synthetic_clip(2.0), 8_000, format=container, subtype=codec)
    with pytest.warns(TruncatedAudioWarning, match=r"begins.*not read"):
        assert len(load_audio(encoded(kind, synthetic_clip(2.0)) + other.getvalue())) == 2 * RATE


def test_a_damaged_file_behind_a_wav_costs_nothing_of_it() -> None:
    with pytest.warns(TruncatedAudioWarning, match=r"a damaged WAV file begins at byte \d+; it was not read"):
        assert len(load_audio(encoded("wav", synthetic_clip(1.0)) + b"RIFF")) == RATE


def test_a_long_flac_of_unknown_length_is_whole() -> None:
    assert read(of_unknown_length(encoded("flac", synthetic_clip(9.0)))) == (9.0, [])


def of_unknown_length(flac: bytes) -> bytes:
    """Return the file as an encoder writes it to a pipe: without the number of samples."""
    return flac[:21] + bytes([flac[21] & 0xF0]) + bytes(4) + flac[26:]


def test_an_mp3_of_variable_rate_without_a_stated_length_is_whole() -> None:
    assert read((FAULTS / "vbr_noxing.mp3").read_bytes()) == (9.072, [])


def test_a_short_flac_of_unknown_length_is_whole() -> None:
    assert read(of_unknown_length(encoded("flac", synthetic_clip(0.4)))) == (0.4, [])


def test_blocks_of_an_mp3_are_what_reading_it_at_once_gives() -> None:
    """A seek between two blocks made libmpg123 lose the bits that the next frames borrow: up to 0.12 of full scale."""
    content = (FAULTS / "vbr_noxing.mp3").read_bytes()
    at_once, rate = soundfile.read(io.BytesIO(content), dtype="float32")
    assert rate == RATE
    np.testing.assert_allclose(load_audio(content), at_once, atol=1e-6)


def test_an_mp3_without_a_stated_length_is_read_beyond_the_first_guess() -> None:
    """Frames that get shorter: what the first ones let expect is a quarter of what there is."""
    dense, sparse = mpeg_frame(bitrate_index=14), mpeg_frame(bitrate_index=1)
    content = dense * 20 + sparse * 400
    assert read(content)[0] == pytest.approx(420 * 576 / RATE, abs=0.04)


def mpeg_frame(bitrate_index: int) -> bytes:
    """Return a silent frame of MPEG-2 layer III, mono, 16 kHz."""
    kbit_s = (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)[bitrate_index - 1]
    header = bytes([0xFF, 0xF3, bitrate_index << 4 | 2 << 2, 0xC0])
    return header.ljust(72 * kbit_s * 1000 // RATE, b"\0")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda content: content[:20_000] + content[25_000:], r"pages are missing at \d\.\d\d s|damaged"),
        (lambda content: content[:-1], "last page is cut"),
    ],
)
def test_damage_inside_an_ogg_is_said_with_its_place(damage: Callable[[bytes], bytes], said: str) -> None:
    with pytest.warns(TruncatedAudioWarning, match=said):
        load_audio(damage((SPEECH / "en_jfk.opus").read_bytes()))


def test_damage_inside_an_mp3_is_said_with_its_place() -> None:
    content = (SPEECH / "en_jfk.mp3").read_bytes()
    with pytest.warns(TruncatedAudioWarning, match=r"\d+ bytes at \d\.\d\d s are no MPEG audio"):
        load_audio(content[:30_000] + b"\x55" * 700 + content[30_000:])


def test_tags_and_padding_are_no_damage() -> None:
    content = (SPEECH / "en_jfk.mp3").read_bytes()
    for behind in (b"TAG".ljust(128, b" "), bytes(4096), b"APETAGEX" + struct.pack("<II", 2000, 32) + bytes(16)):
        assert read_layout(io.BytesIO(content + behind)).faults == []


def test_the_bits_of_a_wav_win_over_its_frame_size() -> None:
    samples = synthetic_clip(1.0)
    content = bytearray(encoded("wav", samples))
    content[32:34] = struct.pack("<H", 4)  # of a frame of 2 bytes
    np.testing.assert_allclose(load_audio(bytes(content)), samples, atol=1e-4)


def test_a_probe_never_fails_and_never_guesses(tmp_path: Path) -> None:
    mp3 = (FAULTS / "vbr_noxing.mp3").read_bytes()
    fmt = struct.pack("<HHIIHH", 0x55, 1, RATE, 6_000, 1, 0)  # MP3 inside WAV, in "frames" of one byte
    wav = b"RIFF" + struct.pack("<I", 36 + len(mp3)) + b"WAVEfmt " + struct.pack("<I", 16) + fmt
    content = {
        "in.wav": wav + b"data" + struct.pack("<I", len(mp3)) + mp3, "a.mp3": mp3, "two.mp3": mp3 + mp3,
        "a.gsm.wav": wav.replace(b"\x55", b"\x31"), "empty": b"", "flac": b"fLaC", "text": b"text",
    }  # fmt: skip
    found = {}
    for name, data in content.items():
        (tmp_path / name).write_bytes(data)
        found[name] = probe_duration(tmp_path / name)
    assert found.pop("a.mp3") == pytest.approx(9.07, abs=0.01)
    assert found.pop("two.mp3") == pytest.approx(18.14, abs=0.02)
    assert set(found.values()) == {None}


@pytest.mark.parametrize("content", [b"fLaC", b"OggS", b"FORM", b".snd", b"RIFF", b"caff", b"2BIT", b"G" * 189])
def test_headers_that_end_early_end_the_walk(content: bytes) -> None:
    for more in (b"", bytes(7), b"\xff" * 40):
        assert read_layout(io.BytesIO(content + more)).parts


@pytest.mark.parametrize(
    ("name", "head"),
    [
        ("caf", b"caff\0\1\0\0" + b"free" + (2**63 - 1).to_bytes(8, "big")),
        ("mp4", b"\0\0\0\1ftyp" + (2**64 - 1).to_bytes(8, "big")),
        ("w64", b"riff\x2e\x91\xcf\x11".ljust(40, b"\0") + bytes(16) + (2**64 - 1).to_bytes(8, "little")),
        ("rf64", b"RF64\xff\xff\xff\xffWAVEds64\x1c\0\0\0" + (2**64 - 1).to_bytes(8, "little")),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_header_that_points_beyond_any_file_is_read_no_further(name: str, head: bytes) -> None:
    """No system seeks to 2^63: that would be an error of its own."""
    layout = read_layout(io.BytesIO(head + bytes(64)))
    assert [part.start for part in layout.parts] == [0]
