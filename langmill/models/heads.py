"""A body that reads text, and on it a head that scores labels: texts, tokens or spans. [models]

Shape letters: B texts, T tokens, D width, L labels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from langmill.core.errors import ConfigError
from langmill.models.config import StackConfig, TransformerConfig
from langmill.models.recurrent import Recurrent, RecurrentConfig
from langmill.models.transformer import ACTIVATIONS, Transformer

Kind = Literal["text", "tokens", "span"]
Pooling = Literal["first", "mean", "last", "late"]
ANSWERERS: dict[Kind, str] = {
    "text": "a classifier",
    "tokens": "a tagger",
    "span": "made to find answers in texts",
}
"""What a model is by its kind of head, for people."""
HEAD_LAYERS = ("transform", "output")
"""Names of a head's layers."""
HEAD_ACTIVATIONS = {**ACTIVATIONS, "tanh": torch.tanh}


@dataclass(frozen=True, kw_only=True)
class HeadConfig:
    """What is scored, and by which layers."""

    kind: Kind
    """Scores of a text's labels (B, L), of each token's labels (B, T, L), or of a span's ends (B, T, 2)."""
    labels: tuple[str, ...] = ()
    """In the order of the scores; a span, whose scores are for its first token and its last, has none."""
    multi_label: bool = False
    """A text may have any number of labels, each with a probability of its own, not exactly one."""
    pooling: Pooling = "first"
    """The state that a text is scored by: of its first or last token, or the mean of all; "late" takes the mean
    after the transform instead of before it."""
    transform: Literal["", "tanh", "relu", "gelu", "gelu_tanh", "silu"] = ""
    """The activation of a layer (D, D) before the output layer; empty: there is none."""
    bias: bool = True
    """Of the output layer."""
    dropout: float = 0.0
    """Share of the channels that the output layer reads."""
    scheme: str = ""
    """What the labels of tokens are tags of, such as BIO; empty: not known."""
    crf: bool = False
    """How well one label of a token follows another is learned too, as a linear-chain conditional random field."""

    def __post_init__(self) -> None:
        for name, allowed in (("kind", Kind), ("pooling", Pooling)):
            if getattr(self, name) not in get_args(allowed):
                raise ConfigError(
                    f"a head's {name} is one of {', '.join(get_args(allowed))}, not {getattr(self, name)!r}"
                )
        if self.transform and self.transform not in HEAD_ACTIVATIONS:
            raise ConfigError(
                f"a head's transform is one of {', '.join(HEAD_ACTIVATIONS)}, not {self.transform!r}"
            )
        if (self.kind == "span") != (not self.labels):
            raise ConfigError(
                "a head for spans has no labels"
                if self.labels
                else f"a head for {self.kind} needs at least 1 label"
            )
        if repeated := sorted({each for each in self.labels if self.labels.count(each) > 1}):
            raise ConfigError(f"labels must differ, but there are several {', '.join(map(repr, repeated))}")
        if self.multi_label and self.kind != "text":
            raise ConfigError(f"several labels at once are for texts, not for a head of kind {self.kind!r}")
        if (self.crf or self.scheme) and self.kind != "tokens":
            raise ConfigError(f"tags and a CRF are for tokens, not for a head of kind {self.kind!r}")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"a head's dropout: {self.dropout} is not allowed; it must be in [0, 1)")

    @property
    def outputs(self) -> int:
        """Scores of a text or token: L, or 2 for a span."""
        return len(self.labels) or 2


def without_output(config: object) -> dict[str, bool]:
    """Return the fields that a body's configuration, or its class, has of an output layer, as they are without one."""
    names = ("has_output", "output_bias", "output_transform")
    return {name: False for name in names if hasattr(config, name)}


@dataclass(frozen=True, kw_only=True)
class HeadedConfig:
    """A body without an output layer, and the head on it."""

    body: TransformerConfig | RecurrentConfig
    head: HeadConfig

    def __post_init__(self) -> None:
        if self.body.has_output:
            raise ConfigError("the body of a head has no output layer of its own")
        if self.body.encoder is not None and self.body.decoder is not None:
            raise ConfigError(
                "heads for labels and spans go on an encoder or a decoder; an encoder-decoder (T5, BART, a"
                " recurrent pair) has none"
            )

    @property
    def vocabulary(self) -> int:
        """Ids that the body reads."""
        return self.body.vocabulary

    @property
    def encoder(self) -> StackConfig | RecurrentConfig | None:
        """The body's encoder, if it is one."""
        return self.body.encoder

    @property
    def decoder(self) -> StackConfig | RecurrentConfig | None:
        """The body's decoder, if it is one."""
        return self.body.decoder

    @property
    def output_stack(self) -> StackConfig | RecurrentConfig:
        """The stack whose states are scored."""
        return self.body.output_stack

    has_output = False
    """It scores no vocabulary."""


def pool(states: Tensor, valid: Tensor | None, pooling: Pooling) -> Tensor:
    """Return what stands for each text, (B, D), of its tokens' states (B, T, D).

    valid: (B, T), False at padding, whose states may be anything; it is on the right.

    >>> states = torch.tensor([[[1.0], [5.0], [torch.nan]]])
    >>> valid = torch.tensor([[True, True, False]])
    >>> [pool(states, valid, pooling).item() for pooling in ("first", "mean", "last")]
    [1.0, 3.0, 5.0]
    """
    if pooling == "first":
        return states[:, 0]
    if pooling == "last":
        if valid is None:
            return states[:, -1]
        last = valid.sum(1).clamp(min=1) - 1
        return states[torch.arange(len(states), device=states.device), last]
    if valid is None:
        return states.mean(1)
    read = states.masked_fill(~valid[..., None], 0).sum(1)
    return read / valid.sum(1, keepdim=True).clamp(min=1).to(read)


class Headed(nn.Module):
    """A body and a head. Gives states and scores, never losses."""

    def __init__(self, config: HeadedConfig) -> None:
        super().__init__()
        self.config = config
        head, width = config.head, config.output_stack.width
        self.body: Transformer | Recurrent = (
            Recurrent(config.body) if isinstance(config.body, RecurrentConfig) else Transformer(config.body)
        )
        self.transform = nn.Linear(width, width) if head.transform else None
        self.output = nn.Linear(width, head.outputs, bias=head.bias)
        ends = head.outputs + 1
        self.transitions = nn.Parameter(torch.empty(ends, ends)) if head.crf else None  # see objectives.crf

    def encode(
        self,
        ids: Tensor,
        *,
        valid: Tensor | None = None,
        segments: Tensor | None = None,
        starts: Tensor | None = None,
    ) -> Tensor:
        """Return the body's states (B, T, D) for token ids (B, T).

        valid: (B, T), False at padding, which is on the right; its states mean nothing. segments: (B, T), each
        token's kind of segment, where the body has such. starts: see `Stack.forward`.
        """
        if self.config.encoder is not None:
            return self.body.encode(ids, valid=valid, segments=segments, starts=starts)
        assert segments is None, "decoders tell no segments apart"
        return self.body.decode(ids, valid=valid, starts=starts)

    def score(self, states: Tensor, *, valid: Tensor | None = None) -> Tensor:
        """Return logits for states (B, T, D): (B, L) of texts, (B, T, L) of tokens, (B, T, 2) of spans."""
        head = self.config.head
        if head.kind == "text" and head.pooling != "late":
            states = pool(states, valid, head.pooling)  # (B, D)
        if self.transform is not None:
            states = HEAD_ACTIVATIONS[head.transform](self.transform(states))
        if head.kind == "text" and head.pooling == "late":
            states = pool(states, valid, "mean")
        return self.output(F.dropout(states, head.dropout, self.training))

    def forward(self, ids: Tensor, *, valid: Tensor | None = None, segments: Tensor | None = None) -> Tensor:
        """Return logits, see `score`, for token ids (B, T)."""
        return self.score(self.encode(ids, valid=valid, segments=segments), valid=valid)
