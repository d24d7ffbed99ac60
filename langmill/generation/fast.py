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
from langmill.models.positions import RelativeBias
from langmill.models.transformer import ACTIVATIONS, Attention, Block, FeedForward, Stack, Transformer

MAXIMUM_ROWS = 64
"""The kernels are measured up to so many rows (docs/log.md)."""
NO_WINDOW = 1 << 40
"""More slots than any text has."""
CLASSES = (
    *(Transformer, Stack, Block, Attention, FeedForward, RelativeBias, nn.ModuleList),
    *(nn.Embedding, nn.Linear, nn.LayerNorm, nn.RMSNorm, nn.Identity, nn.Dropout),
)
"""The modules whose arithmetic the kernels repeat."""


def obstacle(model: Transformer, rows: int) -> str:
    """Return why the kernels cannot decode `rows` rows with `model`, or an empty string if they can."""
    if importlib.util.find_spec("numba") is None:
        return "numba is not installed"
    if rows > MAXIMUM_ROWS:
        return f"{rows} rows are more than {MAXIMUM_ROWS}"
    if not isinstance(model, Transformer) or model.decoder is None:
        return "the model has no Transformer decoder"
    c = model.decoder.config
    if c.segments or model.config.output_transform or (c.cross and c.qk_norm):
        return "the decoder has a part that the kernels have not"
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
    """Return the entries of all weights, in the order of `kernels`; those of an encoder's text stay 0."""
    stack = model.decoder
    assert stack is not None
    modules = [stack.embed, None, stack.input_norm, stack.final_norm, model.output]
    for block in stack.blocks:
        assert isinstance(block, Block)
        a, x, f = block.attention, block.cross, block.feed_forward
        modules += [block.attention_norm, a.query, a.key, a.value, a.query_norm, a.key_norm, a.output]
        modules += [block.cross_norm, *((None, None) if x is None else (x.query, x.output)), None]
        modules += [block.feed_forward_norm, f.up, f.gate, f.down]
    return [number for module in modules for number in entry(module)]


def position_table(stack: Stack) -> Tensor | None:
    """Return what is added to the embedding at each position, (positions, D), if that is how positions are told."""
    if stack.config.positions == "sinusoidal":
        return stack.sinusoids
    if stack.config.positions == "learned":
        return stack.positions.weight[stack.config.position_offset :]
    return None


class FastDecoder:
    """Steps a float32 decoder, sharing each step among `torch.get_num_threads()` threads.

    The weights are read where torch keeps them. `obstacle` must have found none. Until `close`, torch works
    on the calling thread alone: its helpers keep their cores busy for a while after each operation, waiting
    for the next one, which took a fifth of the speed away from the steps here.
    """

    def __init__(self, model: Transformer, rows: int) -> None:
        self.model = model  # keeps its tensors where they are
        self.kernels, self.kernel = compiled()
        self.lanes = torch.get_num_threads()
        self.pool = ThreadPoolExecutor(self.lanes - 1, "langmill-decode") if self.lanes > 1 else None
        config = model.config.output_stack
        self.eps = np.float32(config.norm_eps)
        self.plan = np.concatenate(
            [np.zeros(self.kernels.EMBED, np.int64), np.array(entries(model), np.int64)]
        )
        self._set(
            LAYERS=config.layers,
            WIDTH=config.width,
            HEADS=config.heads,
            KV_HEADS=config.kv_heads,
            HEAD_WIDTH=config.head_width,
            HIDDEN=config.hidden,
            VOCABULARY=model.config.vocabulary,
            RMS=config.norm == "rms",
            NORM_FIRST=config.norm_first,
            QK_NORM=config.qk_norm,
            ACTIVATION=list(ACTIVATIONS).index(config.activation),
            ROTARY=config.positions == "rotary",
            LANES=self.lanes,
            CROSS=config.cross,
            WINDOW=config.window or NO_WINDOW,
        )
        self.buffers: dict[str, Tensor] = {}
        self.memory: list[tuple[Tensor, Tensor]] = []
        """What the plan points at of an encoder's texts; held, so that it stays where it is."""
        self._allocate(rows)
        torch.set_num_threads(1)

    def _set(self, **numbers: int) -> None:
        for name, number in numbers.items():
            self.plan[getattr(self.kernels, name)] = number

    def _hold(self, **tensors: Tensor) -> None:
        """Keep buffers, and write their addresses into the plan."""
        self.buffers |= tensors
        self._set(**{name: tensor.data_ptr() for name, tensor in tensors.items()})

    def _allocate(self, rows: int) -> None:
        config, k = self.model.config.output_stack, self.kernels
        inner, kv_inner = config.heads * config.head_width, config.kv_heads * config.head_width
        pieces = -(-self.model.config.vocabulary // int(k.SCORE_ROWS))
        stack = self.model.decoder
        assert stack is not None
        if (table := position_table(stack)) is not None:
            self._hold(POSITIONS=table.detach())
        scales = [config.embed_scale, config.attention_scale or config.head_width**-0.5]
        self._hold(
            NUMBERS=torch.tensor([*scales, self.model.config.output_scale]),
            IDS=torch.empty(rows, dtype=torch.int64),
            FIRST=torch.empty(rows, dtype=torch.int64),
            STATES=torch.empty(rows, config.width),
            PROJECTED=torch.empty(rows, inner + 2 * kv_inner),
            MIXED=torch.empty(rows, inner),
            INNER=torch.empty(rows, config.hidden),
            GATES=torch.empty(rows, config.hidden if config.gated else 0),
            LOGITS=torch.empty(rows, self.model.config.vocabulary),
            TOPS=torch.empty(rows, pieces, dtype=torch.int64),
            SUMS=torch.empty(rows, pieces),
            BEST=torch.empty(rows, dtype=torch.int64),
            LOG_TOTAL=torch.empty(rows),
            RATES=stack.rates if config.positions == "rotary" else torch.empty(0),
        )
        phases = 2 + config.layers * int(k.PHASES_PER_LAYER)
        self.counters = np.zeros((2 * phases + 1) * k.LINE_BYTES, np.uint8)
        # An atomic counter must not straddle cache lines.
        self._set(COUNTERS=-(-self.counters.ctypes.data // int(k.LINE_BYTES)) * int(k.LINE_BYTES))

    def _attach(self, cache: Cache) -> None:
        """Point the plan at a cache; what a thread has for itself holds a row of scores or a batch of states."""
        rows, width = len(cache.valid), self.model.config.output_stack.width
        longest = max(cache.slots, cache.memory[0][0].shape[2] if cache.memory else 0)
        bytes_each = 64 * -(-4 * max(longest, rows * width) // 64)
        if self.buffers.get("SCRATCH", torch.empty(0)).numel() < self.lanes * bytes_each:
            self._hold(SCRATCH=torch.empty(self.lanes * bytes_each, dtype=torch.uint8))
        if cache.memory:
            self._attach_memory(cache)
            self._set(SHARING=rows // len(cache.memory[0][0]))
        stack = self.model.decoder
        assert stack is not None
        if stack.config.positions == "relative" and self.plan[self.kernels.SLOTS] != cache.slots:
            keys = torch.arange(cache.slots)
            self._hold(BIAS=stack.relative(keys[-1:], keys)[0, :, 0].flip(1).contiguous())  # (H, S)
        self._hold(KEYS=cache.keys, VALUES=cache.values)
        self._set(SCRATCH_BYTES=bytes_each, ROWS=rows, SLOT=cache.length - 1, SLOTS=cache.slots)

    def _attach_memory(self, cache: Cache) -> None:
        """Point the plan at what the encoder read, unless it is what it was."""
        if self.memory is cache.memory:
            return
        self.memory, k = cache.memory, self.kernels
        texts, _, slots, _ = cache.memory[0][0].shape
        for layer, (key, value) in enumerate(cache.memory):
            assert key.is_contiguous() and value.is_contiguous()
            place = k.FIRST_LAYER + layer * k.LAYER_ENTRIES + k.MEMORY
            self.plan[place : place + 2] = key.data_ptr(), value.data_ptr()
        extents = torch.tensor([[0] * texts, [slots] * texts])
        if cache.memory_mask is not None:
            valid = cache.memory_mask[:, 0, 0]  # (M, S), of which each row's tokens stand side by side
            extents = torch.stack([valid.int().argmax(1), valid.sum(1)])
        self._hold(TEXTS=extents)
        self._set(MEMORY_SLOTS=slots)

    def step(self, ids: Sequence[int], cache: Cache) -> Scores:
        """Append ids (B,) to the cache and score what follows them; the next step overwrites the scores."""
        rows = len(ids)
        cache.advance(None, 1)
        self._attach(cache)
        self.buffers["IDS"].numpy()[:rows] = ids
        self.buffers["FIRST"].numpy()[:rows] = cache.valid.numpy().argmax(1)
        self.counters.fill(0)
        plan = self.plan.ctypes.data
        lanes = range(1, self.lanes)
        helpers = [self.pool.submit(self.kernel, plan, self.eps, lane) for lane in lanes] if self.pool else []
        self.kernel(plan, self.eps, 0)
        for helper in helpers:
            if not helper.cancel():  # one that has not begun is not needed any more
                helper.result()
        return Scores(*(self.buffers[name][:rows] for name in ("LOGITS", "BEST", "LOG_TOTAL")))

    def close(self) -> None:
        """Let the threads go, and torch have its own again."""
        torch.set_num_threads(self.lanes)
        if self.pool:
            self.pool.shutdown()
