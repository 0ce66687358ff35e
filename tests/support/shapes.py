"""The shapes of the random checkpoints: small, and unequal where an exporter could take one number for another."""

from __future__ import annotations

from dataclasses import dataclass

from tests.support.tiny_tokenizer import FULL_ADDED_TOKENS, SHORT_ADDED_TOKENS

__all__ = ["SHAPES", "Shape"]

REAL_BPE_TOKENS = 151_643
REAL_VOCAB_ROWS = 151_936


@dataclass(frozen=True)
class Shape:
    """Dimensions of one random checkpoint.

    Attributes:
        bpe_tokens: BPE vocabulary of the tokenizer; the added tokens follow.
        vocab_rows: rows of the embedding, more than there are tokens.
        full_added_tokens: all 62 added tokens of the real tokenizer, or only the seven a prompt needs.
        logit_gain: standard deviation of the logits, by way of the final norm.
        eos_gain: how much longer the stop tokens' embeddings are, so that some sequences stop early.
    """

    name: str
    seed: int
    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    encoder_layers: int
    d_model: int
    encoder_heads: int
    encoder_ffn: int
    conv_channels: int
    vocab_rows: int = 512
    bpe_tokens: int = 420
    full_added_tokens: bool = True
    rope_theta: float = 1e6
    max_positions: int = 8192
    logit_gain: float = 3.0
    eos_gain: float = 1.3

    @property
    def real_tokenizer(self) -> bool:
        """Whether the shape needs the real tokenizer's files."""
        return self.bpe_tokens == REAL_BPE_TOKENS

    @property
    def added(self) -> tuple[tuple[str, bool], ...]:
        """Added tokens in id order."""
        return FULL_ADDED_TOKENS if self.full_added_tokens else SHORT_ADDED_TOKENS

    @property
    def timestamp_id(self) -> int:
        """The id of `<timestamp>` in an aligner's tokenizer: the last one."""
        return self.bpe_tokens + len(self.added)

    def token_id(self, text: str) -> int:
        """Return the id of an added token."""
        return self.bpe_tokens + [token for token, _ in self.added].index(text)


# The seeds are chosen so that no clip of the matrix has a choice closer than 0.005 between its two best logits.
SHAPES: dict[str, Shape] = {
    shape.name: shape
    for shape in (
        # heads * head_dim (128) above hidden, two query heads per kv head.
        Shape("grouped", 13, 2, 96, 160, 4, 2, 32, 2, 64, 4, 128, 8),
        # Deep, one kv head for all queries, a vocabulary with the short list of added tokens and no spare multiple.
        Shape(
            "multiquery", 10, 4, 64, 96, 3, 1, 32, 3, 48, 3, 96, 5, 337, 320, full_added_tokens=False, rope_theta=1e4
        ),
        # heads * head_dim (64) below hidden, as many kv heads as query heads, a wide encoder with two big heads.
        Shape("multihead", 16, 1, 128, 192, 4, 4, 16, 1, 128, 2, 200, 12, 600, 450),
        # Three query heads per kv head of 64, encoder of five heads of 16.
        Shape("threefold", 17, 3, 80, 144, 6, 2, 64, 2, 80, 5, 112, 6, 480, 400, rope_theta=5e5),
        # The real vocabulary and tokenizer.
        Shape("realvocab", 11, 2, 64, 128, 4, 2, 16, 2, 64, 4, 128, 8, REAL_VOCAB_ROWS, REAL_BPE_TOKENS, eos_gain=1.9),
    )
}
