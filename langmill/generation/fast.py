"""Decoding on a CPU at the speed of its memory, by the machine code of `kernels`. [generation]

Shape letters: B rows of the batch, V vocabulary; the others are `kernels`'.
"""

from __future__ import annotations

import functools
import importlib.util
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from langmill.core.log import say
from langmill.generation.decoder import Scores
from langmill.models.cache import Cache
from langmill.models.transformer import ACTIVATIONS, Attention, Block, FeedForward, Stack, Transformer

MAXIMUM_ROWS = 8
"""Beyond this many rows a step is bound by arithmetic, which torch's matrix product does better."""
CLASSES = (
    *(Transformer, Stack, Block, Attention, FeedForward, nn.ModuleList),
    *(nn.Embedding, nn.Linear, nn.LayerNorm, nn.RMSNorm, nn.Identity, nn.Dropout),
)
"""The modules whose arithmetic the kernels repeat."""


def obstacle(model: Transformer, rows: int) -> str:
    """Return why the kernels cannot decode `rows` rows with `model`, or an empty string if they can."""
    if importlib.util.find_spec("numba") is None:
        return "numba is not installed"
    if rows > MAXIMUM_ROWS:
        return f"{rows} rows are more than {MAXIMUM_ROWS}"
    if model.decoder is None or model.encoder is not None:
        return "the model is not a plain decoder"
    for module in model.modules():
        if type(module) not in CLASSES:
            return f"the model has a {type(module).__name__} in it"
        if module._forward_hooks or module._forward_pre_hooks:
            return f"someone listens to a {type(module).__name__}"
    for weight in model.parameters():
        if weight.device.type != "cpu" or weight.dtype != torch.float32 or not weight.is_contiguous():
            return f"a weight is {weight.dtype} on {weight.device}"
    return ""


@functools.cache
def compiled() -> tuple[ModuleType, Any]:
    """Return the module of kernels and its compiled step; says so when it had to be compiled first."""
    from langmill.generation import kernels

    begin = time.perf_counter()
    step = kernels.compile_step()
    if not step.stats.cache_hits:
        say(f"compiled the decoding kernels for this machine, once: {time.perf_counter() - begin:.1f} s")
    return kernels, step


def entry(module: nn.Module | None) -> tuple[int, int, int]:
    """Return the addresses of a module's weight and bias, 0 for what is missing, and the weight's rows."""
    weight, bias = getattr(module, "weight", None), getattr(module, "bias", None)
    if weight is None:
        return 0, 0, 0
    return weight.data_ptr(), 0 if bias is None else bias.data_ptr(), weight.shape[0]


def entries(model: Transformer) -> list[int]:
    """Return the entries of all weights, in the order of `kernels`."""
    stack = model.decoder
    assert stack is not None
    modules = [stack.embed, getattr(stack, "positions", None), stack.final_norm, model.output]
    for block in stack.blocks:
        assert isinstance(block, Block)
        a, f = block.attention, block.feed_forward
        modules += [block.attention_norm, a.query, a.key, a.value, a.query_norm, a.key_norm, a.output]
        modules += [block.feed_forward_norm, f.up, f.gate, f.down]
    return [number for module in modules for number in entry(module)]


class FastDecoder:
    """Steps a plain float32 decoder, sharing each step among `torch.get_num_threads()` threads.

    The weights are read where torch keeps them. `obstacle` must have found none.
    """

    def __init__(self, model: Transformer, rows: int) -> None:
        reason = obstacle(model, rows)
        assert not reason, reason
        self.model = model  # keeps its tensors where they are
        self.kernels, self.kernel = compiled()
        self.lanes = torch.get_num_threads()
        self.pool = ThreadPoolExecutor(self.lanes - 1, "langmill-decode") if self.lanes > 1 else None
        config = model.config.output_stack
        self.eps = np.float32(config.norm_eps)
        inner, kv_inner = config.heads * config.head_width, config.kv_heads * config.head_width
        pieces = -(-model.config.vocabulary // self.kernels.SCORE_ROWS)
        self.logits = torch.empty(rows, model.config.vocabulary)
        self.tops, self.sums = torch.empty(rows, pieces, dtype=torch.int64), torch.empty(rows, pieces)
        self.ids, self.first = (torch.empty(rows, dtype=torch.int64) for _ in range(2))
        widths = (config.width, inner + 2 * kv_inner, inner, config.hidden, config.hidden if config.gated else 0)
        self.buffers = [torch.empty(rows, width) for width in widths]
        phases = 2 + config.layers * self.kernels.PHASES_PER_LAYER
        self.counters = torch.zeros(2 * phases + 1, self.kernels.LINE_BYTES, dtype=torch.uint8)
        self.scratch = torch.empty(0)
        self.plan = np.zeros(self.kernels.EMBED, np.int64)
        self._set("LAYERS WIDTH HEADS KV_HEADS HEAD_WIDTH HIDDEN", config)
        ...

    def close(self) -> None:
        """Let the threads go."""
        if self.pool:
            self.pool.shutdown()
