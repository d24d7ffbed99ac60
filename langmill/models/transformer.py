"""The Transformer, chosen by configuration. [models]

Shape letters, used in every comment of this file:
    B batch    T query positions    S key positions    V vocabulary
    D width    H query heads        K key/value heads  C head width    F hidden width
    M texts that an encoder read
A mask is True where a query may look.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from langmill.core.errors import CheckpointError
from langmill.models.cache import Cache
from langmill.models.config import StackConfig, TransformerConfig
from langmill.models.fused import add_norm, attend, gate, gelu_tanh, linear, recomputing, rotate_heads, usable
from langmill.models.positions import RelativeBias, rotary_rates, rotary_table, sinusoids
from langmill.models.protocol import STATES_ONLY, score_texts
from langmill.models.view import Kept, View

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
    """Multi-head attention of the input over itself and its cached past, or over an encoder's states."""

    def __init__(self, config: StackConfig, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.head_width = config.head_width
        self.scale = config.attention_scale
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

    def keys_and_values(
        self, x: Tensor, rotary: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return what queries find at the places of x (B, S, D), each (B, K, S, C)."""
        key = rotate_heads(self.heads(linear(self.key, x)), self.key_norm, rotary)
        return key, self.heads(linear(self.value, x)).transpose(1, 2)

    def forward(self, x: Tensor, view: View) -> Tensor:
        query = rotate_heads(self.heads(linear(self.query, x)), self.query_norm, view.rotary)  # (B, H, T, C)
        key, value = self.keys_and_values(x, view.rotary)  # (B, K, T, C)
        if view.kept is not None:  # x is (1, P, D): tokens meet here only, in rows
            query, key, value = (
                view.kept.put(part.transpose(1, 2)).transpose(1, 2) for part in (query, key, value)
            )
            return linear(self.output, view.kept.take(self.look(query, key, value, view.mask, view.causal)))
        if view.cache is not None:
            key, value = view.cache.append(self.layer, key, value)  # (B, K, S, C)
        return linear(self.output, self.look(query, key, value, view.mask, view.causal))

    def across(self, x: Tensor, view: View) -> Tensor:
        """Attend to the encoder's states. Rows of x that share a text (M of B) are one batch of queries."""
        query = rotate_heads(self.heads(linear(self.query, x)), self.query_norm, None)  # (B, H, T, C)
        if view.memory is None:
            assert view.cache is not None and view.cache.memory, (
                "a decoder with cross-attention needs `memory`"
            )
            key, value = view.cache.memory[self.layer]  # (M, K, S, C)
            mask = view.cache.memory_mask
        else:
            key, value = self.keys_and_values(view.memory)
            mask = view.memory_mask
        rows, _, tokens, _ = query.shape
        texts = len(key)
        if rows != texts:
            query = query.unflatten(0, (texts, -1)).transpose(1, 2).flatten(2, 3)  # (M, H, B / M · T, C)
        y = self.look(query, key, value, mask, False)
        return linear(self.output, y if rows == texts else y.reshape(rows, tokens, -1))

    def look(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, causal: bool) -> Tensor:
        """Return what the queries (B, H, T, C) gather, (B, T, H * C)."""
        y = attend(query, key, value, mask=mask, causal=causal, scale=self.scale)
        return y.transpose(1, 2).flatten(2)


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
            if self.activation is F.gelu:
                return linear(self.down, linear(self.up, x, gelu=True))
            return linear(self.down, self.activation(linear(self.up, x)))
        if self.activation is F.silu:
            return linear(self.down, gate(linear(self.gate, x), linear(self.up, x)))
        return linear(self.down, self.activation(linear(self.gate, x)) * linear(self.up, x))


class Block(nn.Module):
    """Attention, cross-attention in a decoder that has it, and feed-forward, each with norm and residual."""

    def __init__(self, config: StackConfig, layer: int) -> None:
        super().__init__()
        self.norm_first = config.norm_first
        self.dropout = nn.Dropout(config.dropout) if config.dropout else nn.Identity()
        self.attention = Attention(config, layer)
        self.attention_norm = make_norm(config, config.width)
        self.cross = Attention(config, layer) if config.cross else None
        self.cross_norm = make_norm(config, config.width) if config.cross else None
        self.feed_forward = FeedForward(config)
        self.feed_forward_norm = make_norm(config, config.width)

    def forward(self, x: Tensor, pending: Tensor | None, view: View) -> tuple[Tensor, Tensor | None]:
        """Return the residual stream (B, T, D), and what the next norm is still to add to it.

        A layer's output is added where the sum is normalised, so that one kernel does both.
        """
        x, pending = self.add(self.attention_norm, lambda y: self.attention(y, view), x, pending)
        if self.cross is not None and self.cross_norm is not None:
            across = self.cross.across
            x, pending = self.add(self.cross_norm, lambda y: across(y, view), x, pending)
        return self.add(self.feed_forward_norm, self.feed_forward, x, pending)

    def add(
        self, norm: nn.Module, layer: Callable[[Tensor], Tensor], x: Tensor, pending: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Take the stream past one layer, which is normalised before it or after."""
        if self.norm_first:
            x, y = add_norm(norm, x, pending)
            return x, self.dropout(layer(y))
        return add_norm(norm, x, self.dropout(layer(x)))[1], None


class Stack(nn.Module):
    """An encoder or a decoder: token ids in, states out."""

    rates: Tensor
    sinusoids: Tensor

    def __init__(self, config: StackConfig, vocabulary: int) -> None:
        super().__init__()
        self.config = config
        self.embed = nn.Embedding(vocabulary, config.width)
        if config.segments:
            self.segments = nn.Embedding(config.segments, config.width)
        if config.positions == "learned":
            self.positions = nn.Embedding(config.position_offset + config.max_positions, config.width)
        elif config.positions == "sinusoidal":
            self.register_buffer("sinusoids", sinusoids(config.max_positions, config.width), persistent=False)
        elif config.positions == "rotary":
            self.register_buffer("rates", rotary_rates(config), persistent=False)
        else:
            self.relative = RelativeBias(config)
        self.input_norm = make_norm(config, config.width) if config.input_norm else nn.Identity()
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
        segments: Tensor | None = None,
        memory: Tensor | None = None,
        memory_valid: Tensor | None = None,
        cache: Cache | None = None,
    ) -> Tensor:
        """Return states (B, T, D).

        ids: token ids (B, T). valid: (B, T), False at padding, which is on the left where there is
        a cache; most of it is left out of the work, and its states are of no meaning. starts: (B, T), for packed rows, the index in the row at which each token's document
        begins; a token sees its own document only. segments: (B, T), each token's kind of segment;
        without them all are 0. memory: an encoder's states (B, S, D), memory_valid: (B, S), False at
        their padding; a cache that has been given them (`Transformer.new_cache`) takes their place.
        cache: the past, which the new tokens join.
        """
        assert starts is None or (valid is None and cache is None), (
            "packed rows are neither padded nor cached"
        )
        past = 0 if cache is None else cache.length
        if cache is not None:
            valid = cache.advance(valid, ids.shape[1])  # (B, S)
        positions = self.token_positions(ids, valid=valid, starts=starts, past=past)
        mask, causal = self.mask(ids, valid=valid, starts=starts, past=past, dtype=self.embed.weight.dtype)
        kept = None
        if valid is not None and cache is None and memory is None and not torch.compiler.is_compiling():
            kept = Kept.of(valid)
        if kept is not None:
            ids, positions = kept.take(ids), kept.take(positions)  # (1, P)
            segments = None if segments is None else kept.take(segments)
        x, rotary = self.embedded(ids, segments, positions)
        memory_mask = None if memory_valid is None else memory_valid[:, None, None, :]
        view = View(mask, causal, rotary, cache, memory, memory_mask, kept)
        pending = None
        lean = x.numel() >= RECOMPUTE_NUMBERS and usable(x) and torch.is_grad_enabled()
        with recomputing() if lean else contextlib.nullcontext():
            for block in self.blocks:
                x, pending = block(x, pending, view)
        x = add_norm(self.final_norm, x, pending)[1]
        return x if kept is None else kept.put(x)

    def embedded(
        self, ids: Tensor, segments: Tensor | None, positions: Tensor
    ) -> tuple[Tensor, tuple[Tensor, Tensor] | None]:
        """Return the input (B, T, D) of the first block, and the rotary table if positions are rotary."""
        config = self.config
        x = self.embed(ids)
        if config.embed_scale != 1:
            x = x * config.embed_scale
        rotary = None
        if config.positions == "learned":
            x = x + self.positions(positions + config.position_offset)
        elif config.positions == "sinusoidal":
            x = x + self.sinusoids[positions]
        elif config.positions == "rotary":
            rotary = rotary_table(positions, self.rates, x.dtype)  # each (1 or B, T, C)
        if config.segments:
            x = x + (self.segments.weight[0] if segments is None else self.segments(segments))
        return self.dropout(self.input_norm(x)), rotary

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
        self, ids: Tensor, *, valid: Tensor | None, starts: Tensor | None, past: int, dtype: torch.dtype
    ) -> tuple[Tensor | None, bool]:
        """Return (mask, causal) for attention; no mask at all keeps its fastest kernel in reach."""
        tokens = ids.shape[1]
        relative = self.config.positions == "relative"
        window = self.config.window if past + tokens > self.config.window else 0
        if valid is None and starts is None and not relative and not window:
            if past == 0:
                return None, self.config.causal
            if tokens == 1:
                return None, False  # one query may look at everything before it
        keys = torch.arange(past + tokens, device=ids.device)
        queries = keys[past:, None]  # (T, 1)
        mask = (keys <= queries if self.config.causal else torch.ones_like(keys <= queries))[None, None]
        if window:
            mask = mask & (keys > queries - window)
        if starts is not None:
            first = starts[:, None, :, None]  # (B, 1, T, 1)
            mask = mask & (keys >= first)
            if not self.config.causal:
                mask = mask & (starts[:, None, None, :] == first)
        if valid is not None:
            # Padding looks at itself, so that no row of the mask is all False (a softmax over nothing).
            mask = (mask & valid[:, None, None, :]) | (keys == queries)
        if relative:
            mask = self.relative(keys[past:], keys).to(dtype).masked_fill(~mask, -torch.inf)
        return mask, False  # (1 or B, 1 or H, T, S)


class Transformer(nn.Module):
    """Stacks and the layer that scores the vocabulary. Gives states and scores, never losses."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Stack(config.encoder, config.vocabulary) if config.encoder else None
        self.decoder = Stack(config.decoder, config.vocabulary) if config.decoder else None
        if self.encoder is not None and self.decoder is not None:
            self.encoder.embed = self.decoder.embed
        last = config.output_stack
        if config.has_output and config.output_transform:
            self.transform = nn.Linear(last.width, last.width)
            self.transform_norm = make_norm(last, last.width)
        if config.has_output:
            self.output = nn.Linear(last.width, config.vocabulary, bias=config.output_bias)
            if config.tie_output:
                self.output.weight = self.output_embed.weight

    @property
    def output_embed(self) -> nn.Embedding:
        """The token embedding of the stack whose states are scored."""
        stack = self.decoder or self.encoder
        assert stack is not None
        return stack.embed

    def encode(
        self,
        ids: Tensor,
        *,
        valid: Tensor | None = None,
        starts: Tensor | None = None,
        segments: Tensor | None = None,
    ) -> Tensor:
        """Return the encoder's states (B, T, D); see `Stack.forward` for the arguments."""
        assert self.encoder is not None, "this model has no encoder"
        return self.encoder(ids, valid=valid, starts=starts, segments=segments)

    def decode(
        self,
        ids: Tensor,
        *,
        valid: Tensor | None = None,
        starts: Tensor | None = None,
        memory: Tensor | None = None,
        memory_valid: Tensor | None = None,
        cache: Cache | None = None,
    ) -> Tensor:
        """Return the decoder's states (B, T, D); see `Stack.forward` for the arguments."""
        assert self.decoder is not None, "this model has no decoder"
        return self.decoder(
            ids, valid=valid, starts=starts, memory=memory, memory_valid=memory_valid, cache=cache
        )

    def before_output(self, states: Tensor) -> Tensor:
        """Return what the output layer reads, (..., D): states (..., D) transformed and scaled."""
        if not self.config.has_output:
            raise CheckpointError(STATES_ONLY)
        if self.config.output_transform:
            activation = ACTIVATIONS[self.config.output_stack.activation]
            states = self.transform_norm(activation(linear(self.transform, states)))
        return states if self.config.output_scale == 1 else states * self.config.output_scale

    def score(self, states: Tensor) -> Tensor:
        """Return logits (..., V) for states (..., D)."""
        ready = self.before_output(states)  # first: it says so where there is no output layer
        return self.output(ready)

    def new_cache(
        self,
        batch: int,
        slots: int,
        *,
        memory: Tensor | None = None,
        memory_valid: Tensor | None = None,
    ) -> Cache:
        """Return an empty cache for `batch` rows of up to `slots` tokens.

        memory: what the encoder read, (M, S, D), where `batch` is a multiple of M: as many rows, side
        by side, look at each text. memory_valid: (M, S), False at padding.
        """
        assert self.decoder is not None, "this model has no decoder"
        weight = self.output_embed.weight
        cache = Cache(self.decoder.config, batch, slots, device=weight.device, dtype=weight.dtype)
        if memory is not None:
            layers = [block.cross for block in self.decoder.blocks if isinstance(block, Block)]
            pairs = [cross.keys_and_values(memory) for cross in layers if cross is not None]
            cache.memory = [(key.contiguous(), value.contiguous()) for key, value in pairs]
            cache.memory_mask = None if memory_valid is None else memory_valid[:, None, None, :]
        return cache

    def forward(
        self,
        ids: Tensor,
        *,
        valid: Tensor | None = None,
        starts: Tensor | None = None,
        segments: Tensor | None = None,
        decoder_ids: Tensor | None = None,
        decoder_valid: Tensor | None = None,
    ) -> Tensor:
        """Return logits (B, T, V); see `protocol.score_texts`."""
        read = self.encode(ids, valid=valid, starts=starts, segments=segments) if self.encoder else None
        return score_texts(
            self, ids, read, valid=valid, starts=starts, decoder_ids=decoder_ids, decoder_valid=decoder_valid
        )
