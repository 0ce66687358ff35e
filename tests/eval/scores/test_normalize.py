from __future__ import annotations

import pytest

pytest.importorskip("whisper_normalizer", reason="needs the eval extra")

from qwen3_asr_onnx.text.languages import LANGUAGES
from qwen3_asr_onnx_eval.scores.normalize import normalizer_for


@pytest.mark.parametrize(
    ("language", "text", "expected"),
    [
        ("English", "Mr. Smith's colours cost $3.50, um, or twenty-five!", "mister smith is colors cost $3.50 or 25"),
        ("English", "[noise] I won't", "i will not"),
        ("German", "Grüße aus Köln-Süd – „Straße“ 5!", "grüsse aus köln süd strasse 5"),
        ("French", "L’homme 'rouge' à Genève", "l'homme rouge à genève"),
        ("Hindi", "नमस्ते, दुनिया।", "नमस्ते दुनिया"),
        ("Chinese", "你好，世界！ＡＢＣ １２3", "你好世界abc123"),
        ("Japanese", "カタカナ と ｶﾀｶﾅ", "カタカナとカタカナ"),
        ("Korean", "안녕 하세요.", "안녕하세요"),
        ("Thai", "สวัสดี ครับ", "สวัสดีครับ"),
        ("", "Unknown LANGUAGE.", "unknown language"),
    ],
)
def test_what_counts(language: str, text: str, expected: str) -> None:
    assert normalizer_for(language).apply(text) == expected


@pytest.mark.parametrize("apostrophe", "’‘‛ʼʻ＇′´`")
def test_every_apostrophe_is_one(apostrophe: str) -> None:
    for language, text in (
        ("English", "I'm sure it's Sam's, isn't it? 'Tis the boys' o'clock."),
        ("French", "L'homme d'aujourd'hui, c'est l'ami"),
        ("Italian", "dell'arte"),
        ("Turkish", "İstanbul'da"),
        ("Chinese", "O'Brien说"),
    ):
        apply = normalizer_for(language).apply
        assert apply(text.replace("'", apostrophe)) == apply(text)


@pytest.mark.parametrize("invisible", ["\u00ad", "\u200d", "\u200c", "\u200e", "\u2060", "\ufeff"])
@pytest.mark.parametrize("language", LANGUAGES)
def test_what_nobody_sees_parts_no_word(language: str, invisible: str) -> None:
    apply = normalizer_for(language).apply
    assert apply(f"co{invisible}operate {invisible}twenty") == apply("cooperate twenty")


def test_capitals_of_turkish_letters() -> None:
    turkish, german, english = (normalizer_for(name).apply for name in ("Turkish", "German", "English"))
    assert turkish("IŞIK İSTANBUL I\u0307zmir ılık") == "ışık istanbul izmir ılık"
    assert german("İstanbul ISTANBUL istanbul") == "istanbul istanbul istanbul"
    assert english("İstanbul") == "istanbul"


def test_every_language_has_a_named_versioned_normaliser() -> None:
    for language in LANGUAGES:
        name, at, version = normalizer_for(language).name.partition("@")
        assert name
        assert at
        assert version
    characters = {language for language in LANGUAGES if normalizer_for(language).unit == "character"}
    assert characters == {"Chinese", "Cantonese", "Japanese", "Korean", "Thai"}


@pytest.mark.parametrize("language", [name for name in LANGUAGES if name != "English"])
def test_normalising_twice_changes_nothing(language: str) -> None:
    apply = normalizer_for(language).apply
    for text in ("  L'Été — 25 km/h! ", "你好，世界", "İstanbul 'da", "ﬁn Ⅷ ½", "", "...", "สำ"):
        assert apply(apply(text)) == apply(text)


@pytest.mark.torch
def test_english_is_whispers_own() -> None:
    """transformers carries Whisper's normaliser too (without its table of British spellings)."""
    module = pytest.importorskip("transformers.models.whisper.english_normalizer")
    theirs = module.EnglishTextNormalizer({})
    for text in (
        "It's twenty-five, isn't it?",
        "Dr. Brown owes $20 million (really) [sic].",
        "Hmm, one oh one 2nd café",
    ):
        assert normalizer_for("English").apply(text) == theirs(text)
