"""Decoding on a CPU at the speed of its memory, by the machine code of `kernels`. [generation]

Shape letters: B rows of the batch, V vocabulary; the others are `kernels`'.
"""

from __future__ import annotations

import functools
import importlib.util
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import nn

from langmill.core.log import say
from langmill.generation.decoder import Scores
from langmill.models.cache import Cache
from langmill.models.transformer import Attention, Block, FeedForward, Stack, Transformer

MAXIMUM_ROWS = 8
"""Beyond this many rows a step is bound by arithmetic, which torch's matrix product does better."""
CLASSES = (Transformer, Stack, Block, Attention, FeedForward, nn.ModuleList, nn.Embedding, nn.Linear, nn.LayerNorm,
           nn.RMSNorm, nn.Identity, nn.Dropout)  # fmt: skip
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
    """Return the module of kernels and its compiled step; says so when it has to be compiled first."""
    from langmill.generation import kernels

    return kernels, kernels.compile_step()


def pair(module: nn.Module | None) -> tuple[int, int]:
    """Return the addresses of a module's weight and bias, 0 for what is missing."""
    found = (getattr(module, "weight", None), getattr(module, "bias", None))
    return tuple(0 if tensor is None else tensor.data_ptr() for tensor in found)  # type: ignore[return-value]


def layer_addresses(block: Block) -> list[int]:
    """Return a block's addresses in the order of `kernels`' columns."""
    a, f = block.attention, block.feed_forward
    modules = (block.attention_norm, a.query, a.key, a.value, a.query_norm, a.key_norm, a.output,
               block.feed_forward_norm, f.up, f.gate, f.down)  # fmt: skip
    return [address for module in modules for address in pair(module)]


class FastDecoder:
    """Steps a plain float32 decoder, sharing each step among `torch.get_num_threads()` threads.

    The weights are read where torch keeps them. Raises nothing that `obstacle` would not have said.
    """

    def __init__(self, model: Transformer, rows: int) -> None:
        reason = obstacle(model, rows)
        assert not reason, reason
        assert model.decoder is not None
        self.model = model  # its tensors must outlive the addresses
        self.kernels, self.kernel = compiled()
        self.lanes = torch.get_num_threads()
        self.pool = ThreadPoolExecutor(self.lanes - 1, "langmill-decode") if self.lanes > 1 else None
        stack, config = model.decoder, model.decoder.config
        self.weights = np.array([layer_addresses(block) for block in stack.blocks], np.int64)
        self.ends = np.array(
            [*pair(stack.embed), *pair(getattr(stack, "positions", None)), *pair(stack.final_norm),
             *pair(model.output)], np.int64
        )  # fmt: skip
        activation = ("relu", "gelu", "gelu_tanh", "silu").index(config.activation)
        self.sizes = np.array(
            [config.heads, config.kv_heads, config.head_width, config.norm == "rms", config.norm_first, config.qk_norm,
             activation, 0, self.lanes], np.int64
        )  # fmt: skip
        self.rates = stack.rates.numpy() if config.positions == "rotary" else np.empty(0, np.float32)
        self.buffers = self._buffers(rows)

    def _buffers(self, rows: int) -> list[np.ndarray]:
        config, k = self.model.config.output_stack, self.kernels
        inner = config.heads * config.head_width
        widths = (config.width, inner + 2 * config.kv_heads * config.head_width, inner, config.hidden,
                  config.hidden if config.gated else 0)  # fmt: skip
        self.logits = np.empty((rows, self.model.config.vocabulary), np.float32)
        pieces = -(-self.logits.shape[1] // k.SCORE_ROWS)
        self.tops, self.sums = np.empty((rows, pieces), np.int64), np.empty((rows, pieces), np.float32)
        phases = 2 + config.layers * 7
        self.counters = np.zeros((phases + 1) * 2 * k.WORD_BYTES, np.uint8)
        return [np.empty((rows, width), np.float32) for width in widths]

    def step(self, ids: Sequence[int], cache: Cache) -> Scores:
        rows = len(ids)
        cache.advance(None, 1)
        valid = cache.valid.numpy()[:, : cache.length]
        self.sizes[self.kernels.SLOT] = cache.length - 1
        self.counters.fill(0)
        # Atomic counters must not straddle cache lines.
        base = -(-self.counters.ctypes.data // self.kernels.WORD_BYTES) * self.kernels.WORD_BYTES
        arguments = (
            self.weights, self.ends, self.sizes, np.float32(self.model.config.output_stack.norm_eps), self.rates,
            np.array(ids, np.int64), valid.argmax(1), *(buffer[:rows] for buffer in self.buffers),
            cache.keys.numpy(), cache.values.numpy(), self.logits[:rows], self.tops[:rows], self.sums[:rows], base,
        )  # fmt: skip
        self._run(arguments)
        return self._summarise(rows)

    def _run(self, arguments: tuple[Any, ...]) -> None:
        if not self.kernel.overloads:
            self._compile(arguments)
            return
        helpers = (
            [self.pool.submit(self.kernel, *arguments) for _ in range(self.lanes - 1)] if self.pool else []
        )
        self.kernel(*arguments)
        for helper in helpers:
            if not helper.cancel():  # one that has not begun is not needed any more
                helper.result()

    def _compile(self, arguments: tuple[Any, ...]) -> None:
        """Run the first step alone, which loads the machine code or makes it."""
        folder = Path(self.kernel.stats.cache_path) if self.kernel.stats.cache_path else None
        if folder is None or not any(folder.glob("kernels.decode_step*.nbi")):
            say("compiling the decoding kernels for this machine (once, some seconds) …")
        begin = time.perf_counter()
        self.kernel(*arguments)
        if not self.kernel.stats.cache_hits:
            say(f"compiled in {time.perf_counter() - begin:.1f} s")

    def _summarise(self, rows: int) -> Scores:
        """Join what `kernels.score` left of every piece of the vocabulary; small, so plain numpy."""
        logits, tops = self.logits[:rows], self.tops[:rows]
        values = np.take_along_axis(logits, tops, 1)
        top = values.argmax(1)
        largest = values[np.arange(rows), top]
        total = (self.sums[:rows] * np.exp(values - largest[:, None])).sum(1)
        best = tops[np.arange(rows), top]
        return Scores(
            torch.from_numpy(logits), torch.from_numpy(best), torch.from_numpy(largest + np.log(total))
        )

    def close(self) -> None:
        """Let the threads go."""
        if self.pool:
            self.pool.shutdown()
