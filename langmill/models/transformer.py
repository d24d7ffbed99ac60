"""The Transformer, chosen by configuration. [models]

Shape letters, used in every comment of this file:
    B batch    T query positions    S key positions    V vocabulary
    D width    H query heads        K key/value heads  C head width    F hidden width
A mask is True where a query may look.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from langmill.models.cache import Cache
from langmill.models.config import StackConfig, TransformerConfig
from langmill.models.fused import add_norm, attend, gate, gelu_tanh, recomputing, rotate_heads, usable
from langmill.models.positions import rotary_rates, rotary_table

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "gelu": F.gelu,
    "gelu_tanh": gelu_tanh,
    "silu": F.silu,
}


def make_norm(config: StackConfig, width: int) -> nn.Module:
    """Return the stack's kind of normalisation over `width` channels."""
    kind = nn.RMSNorm if config.norm == "rms" else nn.LayerNorm
    return kind(width, eps=config.norm_eps)


RECOMPUTE_NUMBERS = 1 << 19
"""From so many numbers in the residual stream on, memory is worth a little time; see `fused.recompute`."""


class Attention(nn.Module):
    """Multi-head attention of the input over itself and its cached past."""

    def __init__(self, config: StackConfig, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.head_width = config.head_width
        self.dropout = config.dropout
        inner, kv_inner = config.heads * config.head_width, config.kv_heads * config.head_width
        self.query = nn.Linear(config.width, inner, bias=config.qkv_bias)
        self.key = nn.Linear(config.width, kv_inner, bias=config.qkv_bias)
        self.value = nn.Linear(config.width, kv_inner, bias=config.qkv_bias)
        self.output = nn.Linear(inner, config.width, bias=config.output_bias)
        self.query_norm = make_norm(config, config.head_width) if config.qk_norm else nn.Identity()
        self.key_norm = make_norm(config, config.head_width) if config.qk_norm else nn.Identity()

    def heads(self, x: Tensor) -> Tensor:
        """Split (B, T, heads * C) into (B, T, heads, C)."""
        return x.unflatten(-1, (-1, self.head_width))

    def forward(
        self,
        x: Tensor,
        *,
        mask: Tensor | None,
        causal: bool,
        rotary: tuple[Tensor, Tensor] | None,
        cache: Cache | None,
    ) -> Tensor:
        query = rotate_heads(self.heads(self.query(x)), self.query_norm, rotary)  # (B, H, T, C)
        key = rotate_heads(self.heads(self.key(x)), self.key_norm, rotary)  # (B, K, T, C)
        value = self.heads(self.value(x)).transpose(1, 2)
        if cache is not None:
            key, value = cache.append(self.layer, key, value)  # (B, K, S, C)
        dropout = self.dropout if self.training else 0.0
        y = attend(query, key, value, mask=mask, causal=causal, dropout=dropout)  # (B, H, T, C)
        return self.output(y.transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    """Two layers with an activation between them, or three with a gate."""

    def __init__(self, config: StackConfig) -> None:
        super().__init__()
        self.up = nn.Linear(config.width, config.hidden, bias=config.hidden_bias)
        self.gate = nn.Linear(config.width, config.hidden, bias=config.hidden_bias) if config.gated else None
        self.down = nn.Linear(config.hidden, config.width, bias=config.hidden_bias)
        self.activation = ACTIVATIONS[config.activation]

    def forward(self, x: Tensor) -> Tensor:
        if self.gate is None:
            return self.down(self.activation(self.up(x)))
        if self.activation is F.silu:
            return self.down(gate(self.gate(x), self.up(x)))
        return self.down(self.activation(self.gate(x)) * self.up(x))


class Block(nn.Module):
    """Attention and feed-forward, each with its norm and its residual connection."""

    def __init__(self, config: StackConfig, layer: int) -> None:
        super().__init__()
        self.norm_first = config.norm_first
        self.dropout = nn.Dropout(config.dropout) if config.dropout else nn.Identity()
        self.attention = Attention(config, layer)
        self.attention_norm = make_norm(config, config.width)
        self.feed_forward = FeedForward(config)
        self.feed_forward_norm = make_norm(config, config.width)

    def forward(
        self,
        x: Tensor,
        pending: Tensor | None,
        *,
        mask: Tensor | None,
        causal: bool,
        rotary: tuple[Tensor, Tensor] | None,
        cache: Cache | None,
    ) -> tuple[Tensor, Tensor | None]:
        """Return the residual stream (B, T, D), and what the next norm is still to add to it.

        A layer's output is added where the sum is normalised, so that one kernel does both.
        """
        if self.norm_first:
            x, y = add_norm(self.attention_norm, x, pending)
            y = self.dropout(self.attention(y, mask=mask, causal=causal, rotary=rotary, cache=cache))
            x, y = add_norm(self.feed_forward_norm, x, y)
            return x, self.dropout(self.feed_forward(y))
        y = self.attention(x, mask=mask, causal=causal, rotary=rotary, cache=cache)
        x = self.attention_norm(x + self.dropout(y))
        return self.feed_forward_norm(x + self.dropout(self.feed_forward(x))), None


class Stack(nn.Module):
    """An encoder or a decoder: token ids in, states out."""

    rates: Tensor

    def __init__(self, config: StackConfig, vocabulary: int) -> None:
        super().__init__()
        self.config = config
        self.embed = nn.Embedding(vocabulary, config.width)
        if config.positions == "learned":
            self.positions = nn.Embedding(config.max_positions, config.width)
        else:
            self.register_buffer("rates", rotary_rates(config), persistent=False)
        self.dropout = nn.Dropout(config.dropout) if config.dropout else nn.Identity()
        self.blocks = nn.ModuleList(Block(config, layer) for layer in range(config.layers))
        self.final_norm = make_norm(config, config.width) if config.final_norm else nn.Identity()

    def _apply(self, fn, recurse: bool = True) -> Stack:
        """Move or cast the stack, but the rotary rates only move: half precision would blur the angles."""
        super()._apply(fn, recurse)
        if self.config.positions == "rotary":
            self.rates = rotary_rates(self.config).to(self.rates.device)
        return self

    def forward(
        self,
        ids: Tensor,
        *,
        valid: Tensor | None = None,
        starts: Tensor | None = None,
        cache: Cache | None = None,
    ) -> Tensor:
        """Return states (B, T, D).

        ids: token ids (B, T). valid: (B, T), False at padding, which is on the left where there is
        a cache. starts: (B, T), for packed rows, the index in the row at which each token's document
        begins; a token sees its own document only. cache: the past, which the new tokens join.
        """
        assert starts is None or (valid is None and cache is None), (
            "packed rows are neither padded nor cached"
        )
        past = 0 if cache is None else cache.length
        if cache is not None:
            valid = cache.advance(valid, ids.shape[1])  # (B, S)
        positions = self.token_positions(ids, valid=valid, starts=starts, past=past)
        x = self.embed(ids)  # (B, T, D)
        rotary = None
        if self.config.positions == "learned":
            x = x + self.positions(positions)
        else:
            rotary = rotary_table(positions, self.rates, x.dtype)  # each (1 or B, T, C)
        x = self.dropout(x)
        mask, causal = self.mask(ids, valid=valid, starts=starts, past=past)
        pending = None
        lean = x.numel() >= RECOMPUTE_NUMBERS and usable(x) and torch.is_grad_enabled()
        with recomputing() if lean else contextlib.nullcontext():
            for block in self.blocks:
                x, pending = block(x, pending, mask=mask, causal=causal, rotary=rotary, cache=cache)
        return add_norm(self.final_norm, x, pending)[1]

    def token_positions(
        self, ids: Tensor, *, valid: Tensor | None, starts: Tensor | None, past: int
    ) -> Tensor:
        """Return each token's position in its own text, (B, T), or (1, T) where all rows agree."""
        slots = torch.arange(past, past + ids.shape[1], device=ids.device)[None]  # (1, T)
        if starts is not None:
            return slots - starts
        if valid is None:
            return slots
        return (valid.long().cumsum(1) - 1).clamp(min=0)[:, past:]

    def mask(
        self, ids: Tensor, *, valid: Tensor | None, starts: Tensor | None, past: int
    ) -> tuple[Tensor | None, bool]:
        """Return (mask, causal) for attention; no mask at all keeps its fastest kernel in reach."""
        tokens = ids.shape[1]
        if valid is None and starts is None:
            if past == 0:
                return None, self.config.causal
            if tokens == 1:
                return None, False  # one query may look at everything before it
        keys = torch.arange(past + tokens, device=ids.device)
        queries = keys[past:, None]  # (T, 1)
        mask = (keys <= queries if self.config.causal else torch.ones_like(keys <= queries))[None, None]
        if starts is not None:
            first = starts[:, None, :, None]  # (B, 1, T, 1)
            mask = mask & (keys >= first)
            if not self.config.causal:
                mask = mask & (starts[:, None, None, :] == first)
        if valid is not None:
            # Padding looks at itself, so that no row of the mask is all False (a softmax over nothing).
            mask = (mask & valid[:, None, None, :]) | (keys == queries)
        return mask, False  # (1 or B, 1, T, S)


class Transformer(nn.Module):
    """Stacks and the layer that scores the vocabulary. Gives states and scores, never losses."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Stack(config.encoder, config.vocabulary) if config.encoder else None
        self.decoder = Stack(config.decoder, config.vocabulary) if config.decoder else None
        self.output = nn.Linear(config.output_stack.width, config.vocabulary, bias=False)
        if config.tie_output:
            self.output.weight = self.output_embed.weight

    @property
    def output_embed(self) -> nn.Embedding:
        """The token embedding of the stack whose states are scored."""
        stack = self.decoder or self.encoder
        assert stack is not None
        return stack.embed

    def decode(
        self,
        ids: Tensor,
        *,
        valid: Tensor | None = None,
        starts: Tensor | None = None,
        cache: Cache | None = None,
    ) -> Tensor:
        """Return the decoder's states (B, T, D); see `Stack.forward` for the arguments."""
        assert self.decoder is not None, "this model has no decoder"
        return self.decoder(ids, valid=valid, starts=starts, cache=cache)

    def score(self, states: Tensor) -> Tensor:
        """Return logits (..., V) for states (..., D)."""
        return self.output(states)

    def new_cache(self, batch: int, slots: int) -> Cache:
        """Return an empty cache for `batch` rows of up to `slots` tokens."""
        assert self.config.decoder is not None, "this model has no decoder"
        weight = self.output.weight
        return Cache(self.config.decoder, batch, slots, device=weight.device, dtype=weight.dtype)

    def forward(self, ids: Tensor, *, valid: Tensor | None = None, starts: Tensor | None = None) -> Tensor:
        """Return logits (B, T, V) of a decoder."""
        return self.score(self.decode(ids, valid=valid, starts=starts))
