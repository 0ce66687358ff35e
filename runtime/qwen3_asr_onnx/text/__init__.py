"""Text on both sides of the model: tokenizer, prompts, languages, scripts, and what an answer says."""

from .answer import ParsedOutput, collapse_repetitions, heard_speech, join_texts, merge_languages, parse_output

__all__ = [
    "ParsedOutput",
    "collapse_repetitions",
    "heard_speech",
    "join_texts",
    "merge_languages",
    "parse_output",
]
