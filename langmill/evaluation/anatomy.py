"""What a model is made of and what it costs, from its configuration and its weights. [evaluation]"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from langmill.models.bag import BagClassifier, BagConfig
from langmill.models.config import StackConfig
from langmill.models.crf import CrfConfig, CrfTagger
from langmill.models.heads import HeadConfig, HeadedConfig
from langmill.models.ngram_decoder import NgramConfig, NgramDecoder
from langmill.models.recurrent import RecurrentConfig

BYTES = {"float32": 4, "bfloat16": 2, "int8": 1}
PARTS = {
    "embed": "embeddings",
    "positions": "embeddings",
    "segments": "embeddings",
    "relative": "attention",
    "attention": "attention",
    "cross": "cross-attention",
    "feed_forward": "feed-forward",
    "layers": "recurrent layers",
    "bridge": "bridge",
    "output": "output",
    "transform": "output",
}
"""What a module's name says of the part that its weights belong to; norms are told by theirs."""


@dataclass(frozen=True)
class Anatomy:
    """A model in figures."""

    parameters: Mapping[str, int]
    """By part, weights that two parts share counted once."""
    flops_per_token: float
    """Floating-point operations to read one token, its context short."""
    flops_per_context_token: float
    """What each token of context adds to that."""
    cache_numbers_per_token: int
    """Numbers that decoding keeps of each token; 0 where the state does not grow."""
    drawing: tuple[str, ...]
    bytes_each: Mapping[str, float] = field(default_factory=lambda: BYTES)
    """Bytes a parameter takes, by the type in which it may be held."""

    @property
    def total(self) -> int:
        """All parameters."""
        return sum(self.parameters.values())

    def memory(self, dtype: str, context: int) -> tuple[int, int]:
        """Return the bytes of weights and of the cache of one text of `context` tokens (never below 2 bytes each)."""
        each = self.bytes_each[dtype]
        return round(self.total * each), round(self.cache_numbers_per_token * context * max(2, each))


def part_of(name: str) -> str:
    """Return the part that a weight belongs to.

    >>> part_of("decoder.blocks.3.attention.query.weight"), part_of("decoder.blocks.3.attention_norm.weight")
    ('attention', 'norms')
    """
    pieces = name.split(".")
    if any("norm" in piece for piece in pieces):
        return "norms"
    return next((PARTS[piece] for piece in pieces if piece in PARTS), "other")


def count_parts(model: nn.Module) -> dict[str, int]:
    """Return the parameters of each part; a tied output layer's are those of the embedding."""
    counts: dict[str, int] = {}
    for name, weight in model.named_parameters():
        part = part_of(name)
        counts[part] = counts.get(part, 0) + weight.numel()
    return counts


def anatomy(model: Any) -> Anatomy:
    """Return what there is to say of a model.

    Operations are two for each weight that multiplies (Kaplan et al. 2020, arXiv:2001.08361, table 1: the
    embeddings do not, the output layer does even where it is tied, but not a head that scores whole texts), and 4 · layers · width for each token
    of context that attention looks at; the decoder of a recurrent pair has one such layer.
    """
    config = model.config
    if isinstance(config, NgramConfig):
        return anatomy_of_counts(model)
    if isinstance(config, BagConfig):
        return anatomy_of_bag(model)
    if isinstance(config, CrfConfig):
        return anatomy_of_tagger(model)
    head = config.head if isinstance(config, HeadedConfig) else None
    scores: tuple[str, ...] = (draw_head(head),) if head else ()
    if isinstance(config, HeadedConfig):
        config = config.body
    parts = count_parts(model)
    multiplying = sum(parts.get(part, 0) for part in ("attention", "cross-attention", "feed-forward"))
    multiplying += parts.get("recurrent layers", 0)
    if config.has_output or (head and head.kind != "text"):
        multiplying += model.output.weight.numel()
    if isinstance(config, RecurrentConfig):
        looking = 4.0 * config.width if config.role == "pair" else 0.0
        return Anatomy(parts, 2.0 * multiplying, looking, 0, (*draw_recurrent(config), *scores))
    stacks = [stack for stack in (config.encoder, config.decoder) if stack is not None]
    looking = sum(4.0 * stack.layers * stack.heads * stack.head_width for stack in stacks)
    decoder = config.decoder
    kept = 0 if decoder is None or head else 2 * decoder.layers * decoder.kv_heads * decoder.head_width
    return Anatomy(parts, 2.0 * multiplying, looking, kept, (*draw(config), *scores))


def anatomy_of_counts(model: NgramDecoder) -> Anatomy:
    """Return the same of an n-gram model: two parameters an n-gram, and nothing that multiplies."""
    config = model.config
    parts = {f"order {order}": 2 * count for order, count in enumerate(config.ngrams, 1)}
    parts["discounts"] = model.discounts.numel()
    size = sum(p.nbytes for p in model.parameters())
    kinds = {"counts": size / sum(parts.values())}
    drawing = [f"order {order:<3} {count:>13,} n-grams" for order, count in enumerate(config.ngrams, 1)]
    scores = (
        f"scores    {config.vocabulary:,} (modified Kneser-Ney: each order interpolated with the one before)"
    )
    return Anatomy(parts, 0.0, 0.0, 0, (*drawing, scores), kinds)


def anatomy_of_bag(model: BagClassifier) -> Anatomy:
    """Return the same of a bag of n-grams: a key, a scale and each label's weight an n-gram."""
    config = model.config
    names = ("words", "characters")
    each = len(config.head.labels) + 2
    parts = {f"n-grams of {name}": size * each for name, size in zip(names, config.features)}
    parts |= {"biases": model.bias.numel(), "alphabet": 2 * config.vocabulary}
    size = sum(p.nbytes for p in model.parameters())
    longest = (f"1 to {config.words}", f"2 to {config.pieces}")
    drawing = [f"{name:<10} {n:,} n-grams of {o}" for name, n, o in zip(names, config.features, longest) if n]
    scores = f"scores     {len(config.head.labels):,} labels (a sum of their weights, {config.weighting})"
    return Anatomy(parts, 0.0, 0.0, 0, (*drawing, scores), {"weights": size / sum(parts.values())})


def anatomy_of_tagger(model: CrfTagger) -> Anatomy:
    """Return the same of a tagger of n-grams: a key and each tag's weight a feature."""
    config = model.config
    labels = len(config.head.labels)
    parts = {"features": config.features * (labels + 1), "transitions": model.transitions.numel()}
    parts["alphabet"] = 2 * config.vocabulary
    drawing = (
        f"features   {config.features:,} by {len(config.templates)} templates",
        f"scores     {labels:,} tags (a sum of their weights, and transitions)",
    )
    size = sum(p.nbytes for p in model.parameters())
    return Anatomy(parts, 0.0, 0.0, 0, drawing, {"weights": size / sum(parts.values())})


def draw(config: Any) -> tuple[str, ...]:
    """Return a Transformer as lines, what is read first on top."""
    lines: list[str] = []
    for name, stack in (("encoder", config.encoder), ("decoder", config.decoder)):
        if stack is not None:
            lines += draw_stack(name, stack, config.vocabulary)
    if config.has_output:
        tied = "the embedding's weights" if config.tie_output else "weights of its own"
        bias = ", bias" if config.output_bias else ""
        before = f"linear → {config.output_stack.activation} → norm → " if config.output_transform else ""
        lines.append(f"scores    {before}{config.vocabulary:,} ({tied}{bias})")
    return tuple(lines)


def draw_stack(name: str, stack: StackConfig, vocabulary: int) -> list[str]:
    """Return the lines of one stack."""
    norm = "rms" if stack.norm == "rms" else "layer"
    start = [f"{vocabulary:,} tokens → {stack.width}"]
    start += ["× √width"] if stack.embed_scale != 1 else []
    start += ["+ learned positions"] if stack.positions == "learned" else []
    start += ["+ sinusoids"] if stack.positions == "sinusoidal" else []
    start += [f"+ {stack.segments} segments"] if stack.segments else []
    start += [f"→ {norm} norm"] if stack.input_norm else []
    heads = f"{stack.heads} heads of {stack.head_width}"
    if stack.kv_heads != stack.heads:
        heads += f", {stack.kv_heads} for keys and values"
    heads += {"rotary": ", rotary", "relative": ", relative bias"}.get(stack.positions, "")
    heads += ", qk norm" if stack.qk_norm else ""
    heads += f", window {stack.window}" if stack.window else ""
    inside = f"{stack.activation} × gate" if stack.gated else stack.activation
    layers = [f"{'causal ' if stack.causal else ''}attention ({heads})"]
    layers += ["cross-attention to the encoder"] if stack.cross else []
    layers += [f"feed-forward {stack.hidden} ({inside})"]
    pattern = f"x + {{}}({norm} norm(x))" if stack.norm_first else f"{norm} norm(x + {{}}(x))"
    lines = [f"{name:9} {' '.join(start)}"]
    for number, layer in enumerate(layers):
        label = f"{stack.layers} ×" if number == 0 else ""
        edge = "┌" if number == 0 else "└" if number == len(layers) - 1 else "│"
        what, _, more = layer.partition(" (")
        lines.append(f"{label:>9} {edge} {pattern.format(what)}" + (f"   {more.rstrip(')')}" if more else ""))
    if stack.final_norm:
        lines.append(f"{'':9} → {norm} norm")
    return lines


def draw_recurrent(config: RecurrentConfig) -> tuple[str, ...]:
    """Return a recurrent network as lines, what is read first on top."""
    layers = f"{config.layers:>7} × {config.kind}"
    layers += "" if config.layers == 1 else f", {config.hidden} wide inside"
    layers += f", {config.width} wide at the end"
    embedding = f"{config.vocabulary:,} tokens → {config.width}"
    tied = "the embedding's weights" if config.tie_output else "weights of its own"
    lines = []
    if config.encoder:
        lines += [f"encoder   {embedding}", f"{layers}, half forwards and half backwards"]
    if config.role == "decoder":
        lines += [f"{config.kind:9} {embedding}", layers]
    elif config.role == "pair":
        lines += ["bridge    the encoder's last states → the decoder's first"]
        lines += [f"decoder   {embedding}", layers]
        fed = ", read with the token" if config.attention == "bahdanau" else ""
        lines += [f"          {config.attention} attention to the encoder's states{fed} → tanh"]
    lines += [f"scores    {config.vocabulary:,} ({tied}, bias)"] if config.has_output else []
    return tuple(lines)


def draw_head(head: HeadConfig, *, limit: int = 6) -> str:
    """Return a head as a line.

    >>> draw_head(HeadConfig(kind="text", labels=("ham", "spam"), transform="tanh"))
    'scores    first token → linear → tanh → 2 labels of a text: ham, spam'
    """
    if head.kind == "span":
        return "scores    each token as a span's first and as its last"
    read = {"first": "first token", "last": "last token", "mean": "mean", "late": "tokens"}[head.pooling]
    steps = [read if head.kind == "text" else "each token"]
    steps += ["linear", head.transform] if head.transform else []
    steps += ["mean"] if head.pooling == "late" else []
    shown = ", ".join(head.labels[:limit]) + (" …" if len(head.labels) > limit else "")
    several = ", any number at once" if head.multi_label else ""
    of = "a text" if head.kind == "text" else "a token"
    return f"scores    {' → '.join(steps)} → {len(head.labels)} labels of {of}{several}: {shown}"
