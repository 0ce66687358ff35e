"""A fast forward pass over the native weights for training: windows padded into one batch instead of a Python loop.

Flows in: a native transformers model and a padded batch. Flows out: encoder tokens and decoder states, equal to the native
forward to rounding (`tests/eval/test_mini_corpus.py` compares them).
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from mini.batches import n_audio_tokens

CHUNK, TOKENS, WINDOW_CHUNKS = 100, 13, 8


def _attend(attention: Any, states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    n_windows, length, width = states.shape
    heads = attention.num_heads

    def split(projection: nn.Module) -> torch.Tensor:
        projected: torch.Tensor = projection(states)
        return projected.view(n_windows, length, heads, width // heads).transpose(1, 2)

    mixed = F.scaled_dot_product_attention(
        split(attention.q_proj), split(attention.k_proj), split(attention.v_proj), attn_mask=mask
    )
    joined: torch.Tensor = attention.out_proj(mixed.transpose(1, 2).reshape(n_windows, length, width))
    return joined


def encode(tower: Any, mels: torch.Tensor, n_frames: list[int]) -> torch.Tensor:
    """Return the encoder tokens of all clips end to end.

    Args:
        tower: native audio tower.
        mels: [B, 128, T], T a multiple of 100, zero beyond each clip.
        n_frames: valid frames of each clip.

    Returns:
        [sum of n_audio_tokens(n_frames), d_model] after the final layer norm.
    """
    n_clips, n_mels, longest = mels.shape
    chunks = mels.view(n_clips, n_mels, longest // CHUNK, CHUNK).transpose(1, 2)
    n_chunks = [-(-n // CHUNK) for n in n_frames]
    used = torch.cat([chunks[i, :n] for i, n in enumerate(n_chunks)])
    conv = used.unsqueeze(1)
    for layer in (tower.conv2d1, tower.conv2d2, tower.conv2d3):
        conv = F.gelu(layer(conv))
    total, channels, bins, steps = conv.shape
    tokens = tower.conv_out(conv.permute(0, 3, 1, 2).reshape(total, steps, channels * bins))
    tokens = tokens + tower.positional_embedding.positional_embedding[:steps]
    width = tokens.shape[-1]
    source, target, window, longest_window = [], [], 0, min(WINDOW_CHUNKS, max(n_chunks)) * TOKENS
    offset = 0
    for frames, count in zip(n_frames, n_chunks, strict=True):
        index = torch.arange(n_audio_tokens(frames))
        source.append(index + offset * TOKENS)
        in_window = index % (WINDOW_CHUNKS * TOKENS)
        target.append((window + index // (WINDOW_CHUNKS * TOKENS)) * longest_window + in_window)
        offset += count
        window += -(-count // WINDOW_CHUNKS)
    where = torch.cat(target)
    padded = tokens.new_zeros(window * longest_window, width)
    padded = padded.index_copy(0, where, tokens.reshape(-1, width)[torch.cat(source)])
    valid = torch.zeros(window * longest_window, dtype=torch.bool)
    valid[where] = True
    mask = valid.view(window, 1, 1, longest_window)
    states = padded.view(window, longest_window, width)
    for block in tower.layers:
        states = states + _attend(block.self_attn, block.self_attn_layer_norm(states), mask)
        states = states + block.fc2(F.gelu(block.fc1(block.final_layer_norm(states))))
    normed: torch.Tensor = tower.ln_post(states)
    return normed.reshape(-1, width)[where]


def decode_states(core: Any, ids: torch.Tensor, audio: torch.Tensor, audio_token_id: int) -> torch.Tensor:
    """Return the decoder's last hidden states [B, S, hidden] for right-padded ids with audio spliced in.

    Args:
        core: native model without its head (audio tower, projector, language model).
        ids: [B, S] token ids; padding on the right needs no mask because attention is causal.
        audio: [N, d_model] encoder tokens in reading order.
        audio_token_id: id that the audio tokens replace.
    """
    embeds = core.language_model.embed_tokens(ids)
    projected = core.multi_modal_projector(audio).to(embeds.dtype)
    spliced = embeds.masked_scatter((ids == audio_token_id).unsqueeze(-1), projected)
    states: torch.Tensor = core.language_model(inputs_embeds=spliced, use_cache=False).last_hidden_state
    return states
