"""What a Transformer is made of, as data. [models]

`TransformerConfig` holds an encoder, a decoder or both; each is a `StackConfig`. The named families
(GPT-2, Llama, Qwen …) are values of these two classes, not classes of their own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from langmill.core.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class RotaryScaling:
    """A stretching of the rotary wavelengths, for contexts beyond `trained_positions`.

    kind "linear" divides every rate by `factor` (Chen et al. 2023, arXiv:2306.15595). kind "llama3"
    leaves the rates that turn more than `high_frequency` times within `trained_positions`, divides
    those that turn less than `low_frequency` times, and blends between (Llama 3.1's release).
    """

    kind: Literal["linear", "llama3"]
    factor: float
    low_frequency: float = 1.0
    high_frequency: float = 4.0
    trained_positions: int = 8192


@dataclass(frozen=True, kw_only=True)
class StackConfig:
    """One stack of blocks: an encoder or a decoder."""

    layers: int
    width: int
    heads: int
    hidden: int
    """Width inside the feed-forward layers."""
    causal: bool
    cross: bool = False
    """Attend to an encoder's states too."""
    kv_heads: int = 0
    """Key/value heads, shared by groups of query heads (Ainslie et al. 2023); 0: as many as `heads`."""
    head_width: int = 0
    """Channels a head; 0: width // heads."""
    dropout: float = 0.0
    """Of the embedded input and of what each layer adds. What attention looks at is never dropped: that needs the whole
    (T, S) table of it, which the fast kernels do not make (docs/log.md)."""
    # normalisation
    norm: Literal["layer", "rms"] = "layer"
    norm_eps: float = 1e-5
    norm_first: bool = True
    """False: the 2017 order, add then normalise."""
    input_norm: bool = False
    """Normalise the embedded input (BERT, BART)."""
    final_norm: bool = True
    # positions
    positions: Literal["learned", "sinusoidal", "rotary", "relative"] = "learned"
    max_positions: int = 512
    position_offset: int = 0
    """Rows at the top of the learned table that stand for no position (RoBERTa and BART: 2)."""
    rotary_base: float = 10_000.0
    rotary_scaling: RotaryScaling | None = None
    relative_buckets: int = 32
    """Distances that a learned bias tells apart (Raffel et al. 2020, arXiv:1910.10683, section 2.1)."""
    relative_distance: int = 128
    """The distance from which on all share a bucket."""
    # attention
    window: int = 0
    """Tokens that a query sees, itself and those before it (Beltagy et al. 2020, arXiv:2004.05150); 0: all."""
    qkv_bias: bool = True
    output_bias: bool = True
    qk_norm: bool = False
    """Normalise each query and key over its head's channels before the rotation (Qwen3)."""
    attention_scale: float = 0.0
    """Multiplies query · key; 0: head_width^-½. T5 has 1."""
    # feed-forward
    activation: Literal["relu", "gelu", "gelu_tanh", "silu"] = "gelu"
    gated: bool = False
    """Multiply the activation by a second projection (Shazeer 2020, arXiv:2002.05202)."""
    hidden_bias: bool = True
    # input
    embed_scale: float = 1.0
    """Multiplies the token embeddings (width^½ in the 2017 Transformer)."""
    segments: int = 0
    """Kinds of segment that have an embedding of their own (BERT's token types)."""

    def __post_init__(self) -> None:
        for name in ("layers", "width", "heads", "hidden", "max_positions"):
            if getattr(self, name) < 1:
                raise ConfigError(
                    f"model.{name}: {getattr(self, name)} is not allowed; it must be at least 1"
                )
        object.__setattr__(self, "kv_heads", self.kv_heads or self.heads)
        if not self.head_width and self.width % self.heads:
            raise ConfigError(f"model.width ({self.width}) must be a multiple of model.heads ({self.heads})")
        object.__setattr__(self, "head_width", self.head_width or self.width // self.heads)
        if self.heads % self.kv_heads:
            raise ConfigError(
                f"model.heads ({self.heads}) must be a multiple of model.kv_heads ({self.kv_heads})"
            )
        if self.positions == "rotary" and self.head_width % 2:
            raise ConfigError(
                f"rotary positions need an even number of channels a head, not {self.head_width}"
            )
        if self.positions == "sinusoidal" and self.width % 2:
            raise ConfigError(f"sinusoidal positions need an even width, not {self.width}")
        if self.positions == "relative" and not self.relative_buckets // 4 < self.relative_distance:
            raise ConfigError(
                f"relative_distance ({self.relative_distance}) must exceed a quarter of relative_buckets"
                f" ({self.relative_buckets})"
            )
        if self.window < 0 or (self.window and not self.causal):
            raise ConfigError(
                f"a window of {self.window} tokens is not allowed; a decoder's may have 1 or more"
            )
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"model.dropout: {self.dropout} is not allowed; it must be in [0, 1)")


@dataclass(frozen=True, kw_only=True)
class TransformerConfig:
    """A model: an encoder, a decoder, or both, and the layer that scores the vocabulary."""

    vocabulary: int
    encoder: StackConfig | None = None
    decoder: StackConfig | None = None
    tie_output: bool = True
    """The output layer's weight is the token embedding (Press and Wolf 2017)."""
    has_output: bool = True
    """False: the model gives states only, as a bare encoder for sentence embeddings does."""
    output_bias: bool = False
    output_scale: float = 1.0
    """Multiplies the states before they are scored (T5 v1.0: width^-½)."""
    output_transform: bool = False
    """A layer, its activation and a norm before the states are scored (BERT)."""

    def __post_init__(self) -> None:
        if self.vocabulary < 1:
            raise ConfigError(f"a model needs a vocabulary of at least 1 token, not {self.vocabulary}")
        if self.encoder is None and self.decoder is None:
            raise ConfigError("a model needs an encoder, a decoder or both")
        if self.decoder is not None and self.decoder.cross != (self.encoder is not None):
            raise ConfigError("a decoder has cross-attention just where the model has an encoder too")
        if self.encoder and self.decoder and self.encoder.width != self.decoder.width:
            raise ConfigError(
                f"encoder and decoder share their embeddings, so their widths ({self.encoder.width},"
                f" {self.decoder.width}) must be equal"
            )

    @property
    def output_stack(self) -> StackConfig:
        """The stack whose states are scored."""
        stack = self.decoder or self.encoder
        assert stack is not None
        return stack


def default_stack(
    *,
    layers: int,
    width: int,
    heads: int,
    kv_heads: int,
    hidden: int,
    context: int,
    dropout: float,
    causal: bool,
    qk_norm: bool,
    norm_eps: float,
) -> StackConfig:
    """Return langmill's own stack: rotary, pre-norm RMS, SwiGLU, no bias.

    hidden: 0 takes 8/3 of the width, rounded up to a multiple of 32, which gives the gated
    feed-forward as many weights as an ungated one of four times the width.
    """
    return StackConfig(
        layers=layers,
        width=width,
        heads=heads,
        kv_heads=kv_heads,
        hidden=hidden or -(-8 * width // 3 // 32) * 32,
        causal=causal,
        dropout=dropout,
        norm="rms",
        norm_eps=norm_eps,
        positions="rotary",
        max_positions=context,
        qkv_bias=False,
        output_bias=False,
        qk_norm=qk_norm,
        activation="silu",
        gated=True,
        hidden_bias=False,
    )


def default_decoder(
    vocabulary: int,
    *,
    layers: int,
    width: int,
    heads: int,
    kv_heads: int = 0,
    hidden: int = 0,
    context: int = 1024,
    dropout: float = 0.0,
) -> TransformerConfig:
    """Return langmill's own decoder, Qwen3's layout: see `default_stack`; queries and keys are normalised."""
    stack = default_stack(
        layers=layers,
        width=width,
        heads=heads,
        kv_heads=kv_heads,
        hidden=hidden,
        context=context,
        dropout=dropout,
        causal=True,
        qk_norm=True,
        norm_eps=1e-6,
    )
    return TransformerConfig(vocabulary=vocabulary, tie_output=True, decoder=stack)


def default_encoder(
    vocabulary: int,
    *,
    layers: int,
    width: int,
    heads: int,
    kv_heads: int = 0,
    hidden: int = 0,
    context: int = 1024,
    dropout: float = 0.0,
) -> TransformerConfig:
    """Return langmill's own encoder, EuroBERT's layout: see `default_stack`."""
    stack = default_stack(
        layers=layers,
        width=width,
        heads=heads,
        kv_heads=kv_heads,
        hidden=hidden,
        context=context,
        dropout=dropout,
        causal=False,
        qk_norm=False,
        norm_eps=1e-5,
    )
    return TransformerConfig(vocabulary=vocabulary, tie_output=True, encoder=stack)


def bert_encoder(
    vocabulary: int,
    *,
    layers: int,
    width: int,
    heads: int,
    kv_heads: int = 0,
    hidden: int = 0,
    context: int = 512,
    dropout: float = 0.0,
) -> TransformerConfig:
    """Return a BERT (Devlin et al. 2019): learned positions, segments, post-norm, GELU, biases.

    kv_heads: 0 or `heads`, the only value the layout has. hidden: 0 takes four times the width.
    """
    stack = StackConfig(
        layers=layers,
        width=width,
        heads=heads,
        kv_heads=kv_heads,
        hidden=hidden or 4 * width,
        causal=False,
        dropout=dropout,
        norm_eps=1e-12,
        norm_first=False,
        input_norm=True,
        final_norm=False,
        max_positions=context,
        segments=2,
    )
    return TransformerConfig(vocabulary=vocabulary, encoder=stack, output_bias=True, output_transform=True)


def gpt2_decoder(
    vocabulary: int,
    *,
    layers: int,
    width: int,
    heads: int,
    kv_heads: int = 0,
    hidden: int = 0,
    context: int = 1024,
    dropout: float = 0.0,
) -> TransformerConfig:
    """Return a GPT-2 (Radford et al. 2019): learned positions, layer norm, GELU, biases.

    kv_heads: 0 or `heads`, the only value the layout has. hidden: 0 takes four times the width.
    """
    stack = StackConfig(
        layers=layers,
        width=width,
        heads=heads,
        kv_heads=kv_heads,
        hidden=hidden or 4 * width,
        causal=True,
        dropout=dropout,
        max_positions=context,
        activation="gelu_tanh",
    )
    return TransformerConfig(vocabulary=vocabulary, tie_output=True, decoder=stack)


def pair_of(stack: StackConfig, vocabulary: int, *, output_bias: bool = False) -> TransformerConfig:
    """Return an encoder-decoder whose two stacks differ in their roles alone. stack: the encoder."""
    decoder = replace(stack, causal=True, cross=True)
    return TransformerConfig(vocabulary=vocabulary, encoder=stack, decoder=decoder, output_bias=output_bias)


def default_encoder_decoder(
    vocabulary: int,
    *,
    layers: int,
    width: int,
    heads: int,
    hidden: int = 0,
    context: int = 512,
    dropout: float = 0.0,
) -> TransformerConfig:
    """Return langmill's own encoder-decoder: T5 v1.1's layout (relative positions, pre-norm RMS, GEGLU, no bias).

    hidden: 0 takes 8/3 of the width, rounded up to a multiple of 32. context: tokens of the longest
    text; no table limits it.
    """
    stack = StackConfig(
        layers=layers,
        width=width,
        heads=heads,
        hidden=hidden or -(-8 * width // 3 // 32) * 32,
        causal=False,
        dropout=dropout,
        norm="rms",
        norm_eps=1e-6,
        positions="relative",
        max_positions=context,
        qkv_bias=False,
        output_bias=False,
        attention_scale=1.0,
        activation="gelu_tanh",
        gated=True,
        hidden_bias=False,
    )
    return pair_of(stack, vocabulary)


def bart_encoder_decoder(
    vocabulary: int,
    *,
    layers: int,
    width: int,
    heads: int,
    hidden: int = 0,
    context: int = 1024,
    dropout: float = 0.0,
) -> TransformerConfig:
    """Return a BART (Lewis et al. 2020): learned positions, post-norm, GELU, biases.

    hidden: 0 takes four times the width.
    """
    stack = StackConfig(
        layers=layers,
        width=width,
        heads=heads,
        hidden=hidden or 4 * width,
        causal=False,
        dropout=dropout,
        norm_first=False,
        input_norm=True,
        final_norm=False,
        max_positions=context,
        position_offset=2,
    )
    return pair_of(stack, vocabulary, output_bias=True)
