"""What must come out the same however a model is used: checks that run on any decoder. [evaluation]

Each check compares scores (logits) of the model that are computed in two ways, on drawn token ids. Its
difference is the largest over all scores, divided by the largest score where that is above 1: rounding
grows with the size of the numbers.

Shape letters: B rows, T tokens, V vocabulary.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import itertools
import math
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from langmill.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from langmill.checkpoint.adapters import is_adapter
from langmill.generation.decoder import TorchDecoder
from langmill.generation.fast import FastDecoder, obstacle

TOLERANCE = {torch.float32: 2e-5, torch.float16: 5e-3, torch.bfloat16: 4e-2}
"""Allowed difference by the weights' precision, some ten times what rounding gave on sound models."""
ROWS = 3
TOKENS = 24
"""Size of the drawn input; a model that looks back over less gets less."""
STEPS = 4
"""Tokens that are fed one by one after the first part."""
LARGEST_COPY_BYTES = 8 << 30
"""A model with more weights than this is not written to a temporary folder."""


@dataclass(frozen=True)
class Check:
    """What one check found."""

    name: str
    difference: float | None
    """The largest; None: the check was left out."""
    tolerance: float
    note: str = ""
    """What was checked, or why it was not."""

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong: within tolerance, or left out. A NaN is wrong."""
        return self.difference is None or self.difference <= self.tolerance

    @property
    def status(self) -> str:
        """In a word: ok, FAILED or skipped."""
        return "skipped" if self.difference is None else ("ok" if self.ok else "FAILED")

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON can hold it; a difference that is no number is null, its status FAILED."""
        known = self.difference is not None and math.isfinite(self.difference)
        return {
            "name": self.name,
            "difference": self.difference if known else None,
            "tolerance": self.tolerance,
            "status": self.status,
            "note": self.note,
        }


def largest_difference(found: Tensor, expected: Tensor) -> float:
    """Return max |found - expected|, divided by max |expected| where that is above 1.

    >>> largest_difference(torch.tensor([1.0, 30.0]), torch.tensor([1.0, 40.0]))
    0.25
    """
    found, expected = found.double(), expected.double()
    return float((found - expected).abs().max() / expected.abs().max().clamp(min=1))


def draw_ids(model: Any, rows: int = ROWS, tokens: int = TOKENS, *, seed: int = 0) -> Tensor:
    """Return drawn ids (rows, tokens), fewer tokens where the model looks back over fewer."""
    stack = model.config.output_stack
    generator = torch.Generator().manual_seed(seed)
    size = (rows, min(tokens, stack.max_positions))
    return torch.randint(model.config.vocabulary, size, generator=generator).to(model.output.weight.device)


def tolerance_of(model: Any) -> float:
    """Return the difference that rounding may cause."""
    return TOLERANCE.get(model.output.weight.dtype, TOLERANCE[torch.bfloat16])


@torch.no_grad()
def batched_is_single(model: Any) -> Check:
    """Rows of a batch score as each does by itself."""
    ids = draw_ids(model)
    together = model.score(model.decode(ids))
    alone = torch.cat([model.score(model.decode(row[None])) for row in ids])
    return Check("batched = single", largest_difference(together, alone), tolerance_of(model))


@torch.no_grad()
def padded_is_unpadded(model: Any) -> Check:
    """Rows padded on the left or on the right score as without padding."""
    ids = draw_ids(model)
    rows, tokens = ids.shape
    worst = 0.0
    for left in (False, True):
        lengths = [max(1, tokens - 5 * row) for row in range(rows)]
        padded, valid = draw_ids(model, seed=1), torch.zeros_like(ids, dtype=torch.bool)
        for row, length in enumerate(lengths):
            places = _places(tokens, length, left=left)
            padded[row, places], valid[row, places] = ids[row, :length], True
        scores = model.score(model.decode(padded, valid=valid))
        for row, length in enumerate(lengths):
            alone = model.score(model.decode(ids[row : row + 1, :length]))[0]
            found = largest_difference(scores[row, _places(tokens, length, left=left)], alone)
            worst = _worse(worst, found)
    return Check("padded = unpadded", worst, tolerance_of(model))


@torch.no_grad()
def cached_is_uncached(model: Any) -> Check:
    """A text fed in pieces through the cache scores as in one; rows padded on the left too."""
    ids = draw_ids(model)
    worst = _worse(
        _cached_difference(model, ids, pad=0), _cached_difference(model, ids, pad=min(3, ids.shape[1] - 1))
    )
    return Check("cached = uncached", worst, tolerance_of(model))


def _cached_difference(model: Any, ids: Tensor, *, pad: int) -> float:
    """Feed half of the tokens, a quarter, then one by one; row i is padded by i · pad slots at the left."""
    rows, tokens = ids.shape
    empty = [min(row * pad, tokens - 1) for row in range(rows)]
    valid = torch.ones_like(ids, dtype=torch.bool)
    for row, slots in enumerate(empty):
        valid[row, :slots] = False
    cache = model.new_cache(rows, tokens)
    cuts = sorted({0, tokens // 2, 3 * tokens // 4, *range(max(tokens - STEPS, 3 * tokens // 4), tokens + 1)})
    parts = [
        model.score(model.decode(ids[:, begin:end], valid=valid[:, begin:end] if pad else None, cache=cache))
        for begin, end in itertools.pairwise(cuts)
    ]
    whole = [model.score(model.decode(ids[row : row + 1, slots:]))[0] for row, slots in enumerate(empty)]
    return largest_difference(torch.cat(parts, 1)[valid], torch.cat(whole))


@torch.no_grad()
def packed_is_separate(model: Any) -> Check:
    """Documents packed into one row score as each does by itself."""
    ids = draw_ids(model, rows=1)
    tokens = ids.shape[1]
    cuts = sorted({0, tokens // 4, tokens // 2 + 1, tokens})
    cuts = [cut for cut in cuts if cut <= tokens]
    starts = torch.zeros_like(ids)
    for begin, end in itertools.pairwise(cuts):
        starts[:, begin:end] = begin
    packed = model.score(model.decode(ids, starts=starts))
    separate = torch.cat([model.score(model.decode(ids[:, a:b])) for a, b in itertools.pairwise(cuts)], 1)
    return Check("packed = separate", largest_difference(packed, separate), tolerance_of(model))


@torch.no_grad()
def fast_is_plain(model: Any) -> Check:
    """The decoder that generation uses on a CPU scores as the model itself does."""
    name, tolerance = "fast decoding = plain", tolerance_of(model)
    ids = draw_ids(model)
    if reason := obstacle(model, len(ids)):
        return Check(name, None, tolerance, reason)
    first = max(1, ids.shape[1] - STEPS)
    scores = []
    for kind in (FastDecoder, lambda model, rows: TorchDecoder(model)):
        cache = model.new_cache(*ids.shape)
        model.decode(ids[:, :first], cache=cache)
        decoder = kind(model, len(ids))
        try:
            steps = [
                decoder.step(ids[:, at].tolist(), cache).logits.clone() for at in range(first, ids.shape[1])
            ]
        finally:
            decoder.close()
        if not steps:
            return Check(name, None, tolerance, "the model looks back over a single token")
        scores.append(torch.stack(steps))
    return Check(name, largest_difference(*scores), tolerance)


@torch.no_grad()
def saved_is_original(checkpoint: Checkpoint) -> Check:
    """Written to a folder and read again, the model gives the same scores to the bit; so does the tokenizer."""
    name, model = "saved and loaded = original", checkpoint.model
    size = sum(p.numel() * p.element_size() for p in model.parameters())
    if size > LARGEST_COPY_BYTES:
        return Check(name, None, 0.0, f"its {size / 1e9:.0f} GB are not written for a check")
    ids = draw_ids(model)
    weight: Tensor = model.output.weight
    with tempfile.TemporaryDirectory(prefix="langmill-doctor-") as folder:
        save_checkpoint(folder, checkpoint)
        again = load_checkpoint(folder, dtype=weight.dtype, device=weight.device)
        difference = largest_difference(again.model(ids), model(ids))
    if checkpoint.tokenizer is not None and (
        again.tokenizer is None or again.tokenizer.fingerprint() != checkpoint.tokenizer.fingerprint()
    ):
        return Check(name, math.nan, 0.0, "the tokenizer changed")
    return Check(name, difference, 0.0)


MODEL_CHECKS: tuple[Callable[[Any], Check], ...] = (
    batched_is_single,
    padded_is_unpadded,
    cached_is_uncached,
    packed_is_separate,
    fast_is_plain,
)


def model_checks(model: Any) -> Iterator[Check]:
    """Yield each check of a decoder; the model is put into evaluation mode."""
    model.eval()
    for check in MODEL_CHECKS:
        yield check(model)


@torch.no_grad()
def ours_is_transformers(folder: Path, model: Any) -> Check:
    """Transformers reads the folder to the same scores, where it is installed."""
    name, tolerance = "ours = Transformers", tolerance_of(model)
    module = _transformers()
    if module is None:
        return Check(name, None, tolerance, "transformers is not installed")
    if is_adapter(folder) and importlib.util.find_spec("peft") is None:
        return Check(name, None, tolerance, "peft, with which Transformers reads adapters, is not installed")
    dtype = model.output.weight.dtype
    theirs = module.AutoModelForCausalLM.from_pretrained(folder, local_files_only=True, dtype=dtype).eval()
    ids = draw_ids(model)
    found = theirs.to(ids.device)(ids, use_cache=False).logits
    return Check(name, largest_difference(model(ids), found), tolerance, f"transformers {module.__version__}")


def tokenizer_is_transformers(folder: Path, tokenizer: Any, samples: dict[str, str]) -> Check:
    """Transformers reads the tokenizer to the same ids, where it is installed."""
    name = "tokenizer = Transformers'"
    module = _transformers()
    if module is None:
        return Check(name, None, 0.0, "transformers is not installed")
    theirs = module.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    wrong = [
        kind
        for kind, text in samples.items()
        if theirs(text, add_special_tokens=False)["input_ids"] != tokenizer.encode(text)
    ]
    return Check(
        name, float(len(wrong)), 0.0, f"other ids for: {', '.join(wrong)}" if wrong else "the same ids"
    )


@functools.cache
def _transformers() -> Any:
    """Return the module, told to be quiet and to stay offline; None where it is not installed."""
    if importlib.util.find_spec("transformers") is None:
        return None
    module = importlib.import_module("transformers")
    module.logging.set_verbosity_error()
    module.logging.disable_progress_bar()
    return module


def _places(tokens: int, length: int, *, left: bool) -> slice:
    return slice(tokens - length, tokens) if left else slice(0, length)


def _worse(a: float, b: float) -> float:
    """Return the larger of two differences; one that is no number is the worst (`max` may lose it)."""
    return a if math.isnan(a) or a >= b else b
