"""Configurations that make no sense are refused with the rule they break."""

from __future__ import annotations

import pytest

from langmill.core.errors import ConfigError
from langmill.models.config import StackConfig, TransformerConfig, default_decoder

STACK = {"layers": 1, "width": 12, "heads": 4, "hidden": 8, "causal": True}


def test_derived_sizes():
    stack = StackConfig(**STACK)
    assert (stack.kv_heads, stack.head_width) == (4, 3)
    assert StackConfig(**STACK, head_width=5).head_width == 5


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"layers": 0}, "model.layers"),
        ({"width": 13}, r"model.width \(13\) must be a multiple of model.heads \(4\)"),
        ({"kv_heads": 3}, r"model.heads \(4\) must be a multiple of model.kv_heads \(3\)"),
        ({"positions": "rotary"}, "even number of channels a head, not 3"),
        ({"dropout": 1.0}, "model.dropout: 1.0"),
        ({"max_positions": 0}, "model.max_positions"),
    ],
)
def test_refusals(changes, word):
    with pytest.raises(ConfigError, match=word):
        StackConfig(**{**STACK, **changes})


def test_a_model_needs_a_stack_and_a_vocabulary():
    with pytest.raises(ConfigError, match="an encoder, a decoder or both"):
        TransformerConfig(vocabulary=5)
    with pytest.raises(ConfigError, match="at least 1 token, not 0"):
        TransformerConfig(vocabulary=0, decoder=StackConfig(**STACK))


@pytest.mark.parametrize(("width", "hidden"), [(128, 352), (192, 512), (768, 2048)])
def test_hidden_width_of_the_default_decoder(width, hidden):
    """8/3 of the width, rounded up to a multiple of 32."""
    assert default_decoder(10, layers=1, width=width, heads=4).decoder.hidden == hidden
    assert default_decoder(10, layers=1, width=width, heads=4, hidden=100).decoder.hidden == 100
