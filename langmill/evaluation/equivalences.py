"""What must come out the same however a model is used: checks that run on any architecture. [evaluation]

Each check compares scores (logits) of the model that are computed in two ways, on drawn token ids. Its
difference is the largest over all scores, divided by the largest score where that is above 1: rounding
grows with the size of the numbers.

Shape letters: B rows, T tokens, S tokens that an encoder reads for a decoder, D width, V vocabulary.
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
from langmill.models.bag import BagClassifier
from langmill.models.crf import CrfTagger
from langmill.models.families import FAMILIES, choose_family
from langmill.models.families.table import head_layout
from langmill.models.heads import Headed
from langmill.models.ngram_decoder import NgramDecoder

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
    """Return drawn ids (rows, tokens), fewer tokens where the model looks back over fewer.

    They are drawn evenly, but by an n-gram model from what it says itself.
    """
    stack = model.config.output_stack
    generator = torch.Generator().manual_seed(seed)
    size = (rows, min(tokens, stack.max_positions))
    ids = torch.randint(model.config.vocabulary, size, generator=generator).to(_weight(model).device)
    # Of ids drawn evenly a model of counts knows no n-gram, and every way to look them up comes out alike.
    for place in range(1, size[1] if isinstance(model, NgramDecoder) else 0):
        scores = model.score(model.decode(ids[:, :place])[:, -1]).cpu()
        ids[:, place] = torch.multinomial(scores.exp(), 1, generator=generator)[:, 0]
    return ids


def draw_source(model: Any, rows: int = ROWS) -> Tensor | None:
    """Return drawn ids for the encoder of an encoder-decoder to read, (rows, tokens); None for a lone stack."""
    config = model.config
    if config.encoder is None or config.decoder is None:
        return None
    return draw_ids(model, rows, min(TOKENS - 3, config.encoder.max_positions), seed=2)


def scores_of(
    model: Any,
    ids: Tensor,
    source: Tensor | None = None,
    *,
    valid: Tensor | None = None,
    source_valid: Tensor | None = None,
    starts: Tensor | None = None,
) -> Tensor:
    """Return the scores of ids (B, T), given `source` (B, S) in an encoder-decoder.

    (B, T, V), or the states (B, T, D) of a model that scores no tokens. valid, source_valid: False at padding.
    """
    if source is not None:
        return model(source, valid=source_valid, decoder_ids=ids, decoder_valid=valid)
    if isinstance(model, CrfTagger):
        return model(ids, valid=valid)
    if not model.config.has_output:
        decodes = model.config.encoder is None and not isinstance(model, Headed)
        states = (model.decode if decodes else model.encode)(ids, valid=valid, starts=starts)
        return model.score(states) if isinstance(model, Headed) and not scores_texts(model) else states
    return model(ids, valid=valid, starts=starts)


def scores_texts(model: Any) -> bool:
    """Whether a model scores whole texts, not their tokens."""
    return isinstance(model, BagClassifier) or (
        isinstance(model, Headed) and model.config.head.kind == "text"
    )


def results_of(model: Any, ids: Tensor, source: Tensor | None = None) -> Tensor:
    """Return what comes out for ids (B, T) in the end: `scores_of`, or (B, L) where texts are scored."""
    return model(ids) if scores_texts(model) else scores_of(model, ids, source)


def tolerance_of(model: Any) -> float:
    """Return the difference that rounding may cause."""
    return TOLERANCE.get(_weight(model).dtype, TOLERANCE[torch.bfloat16])


@torch.no_grad()
def batched_is_single(model: Any) -> Check:
    """Rows of a batch score as each does by itself."""
    ids, source = draw_ids(model), draw_source(model)
    together = results_of(model, ids, source)
    alone = [results_of(model, ids[i : i + 1], _rows(source, [i])) for i in range(len(ids))]
    return Check("batched = single", largest_difference(together, torch.cat(alone)), tolerance_of(model))


@torch.no_grad()
def padded_is_unpadded(model: Any) -> Check:
    """Rows padded on the left or on the right score as without padding; an encoder-decoder's on both sides.

    Of a model that scores texts the states are compared, and the scores of rows padded on the right.
    """
    ids, source = draw_ids(model), draw_source(model)
    worst = 0.0
    for left in (False, True):
        padded, valid = _padded(model, ids, 5, left=left)
        if scores_texts(model) and not left:  # a head's padding is on the right
            texts = torch.cat([model(padded[row : row + 1, valid[row]]) for row in range(len(ids))])
            worst = _worse(worst, largest_difference(model(padded, valid=valid), texts))
        if isinstance(model, BagClassifier):  # it has no states
            continue
        wide, wide_valid = (None, None) if source is None else _padded(model, source, 4, left=left)
        scores = scores_of(model, padded, wide, valid=valid, source_valid=wide_valid)
        for row in range(len(ids)):
            text = None if wide is None or wide_valid is None else wide[row : row + 1, wide_valid[row]]
            alone = scores_of(model, padded[row : row + 1, valid[row]], text)[0]
            worst = _worse(worst, largest_difference(scores[row, valid[row]], alone))
    return Check("padded = unpadded", worst, tolerance_of(model))


def _padded(model: Any, ids: Tensor, step: int, *, left: bool) -> tuple[Tensor, Tensor]:
    """Return ids (B, T) whose row i has lost i · step tokens to padding, drawn too, and where it has none."""
    rows, tokens = ids.shape
    lengths = [max(1, tokens - step * row) for row in range(rows)]
    padded, valid = draw_ids(model, rows, tokens, seed=1), torch.zeros_like(ids, dtype=torch.bool)
    for row, length in enumerate(lengths):
        places = slice(tokens - length, tokens) if left else slice(0, length)
        padded[row, places], valid[row, places] = ids[row, :length], True
    return padded, valid


def reads_whole_texts(model: Any) -> str:
    """Return why a model has no cache, or an empty string if it has one."""
    if isinstance(model, Headed):
        return "a model with a head continues no text"
    if model.config.decoder is None:
        return "an encoder reads whole texts"
    return "" if model.config.has_output else "a model that scores no tokens continues no text"


@torch.no_grad()
def cached_is_uncached(model: Any) -> Check:
    """A text fed in pieces through the cache scores as in one; rows padded on the left too."""
    name, tolerance = "cached = uncached", tolerance_of(model)
    if reason := reads_whole_texts(model):
        return Check(name, None, tolerance, reason)
    tokens = draw_ids(model).shape[1]
    worst = _worse(
        _cached_difference(model, pad=0), _cached_difference(model, pad=min(TOKENS // 3, tokens - 1))
    )
    return Check(name, worst, tolerance)


def _cached_difference(model: Any, *, pad: int) -> float:
    """Feed half of the tokens, a quarter, then one by one; row i is padded by i · pad slots at the left."""
    ids, source = draw_ids(model), draw_source(model)
    rows, tokens = ids.shape
    empty = [min(row * pad, tokens - 1) for row in range(rows)]
    valid = torch.ones_like(ids, dtype=torch.bool)
    for row, slots in enumerate(empty):
        valid[row, :slots] = False
    cache = _new_cache(model, rows, tokens, source)
    cuts = sorted({0, tokens // 2, 3 * tokens // 4, *range(max(tokens - STEPS, 3 * tokens // 4), tokens + 1)})
    parts = [
        model.score(model.decode(ids[:, begin:end], valid=valid[:, begin:end] if pad else None, cache=cache))
        for begin, end in itertools.pairwise(cuts)
    ]
    whole = [
        scores_of(model, ids[row : row + 1, slots:], _rows(source, [row]))[0]
        for row, slots in enumerate(empty)
    ]
    return largest_difference(torch.cat(parts, 1)[valid], torch.cat(whole))


@torch.no_grad()
def reordered_is_fresh(model: Any) -> Check:
    """Rows of a cache that are repeated and take each other's places, as beams do, score as read afresh."""
    name, tolerance = "reordered = read afresh", tolerance_of(model)
    if reason := reads_whole_texts(model):
        return Check(name, None, tolerance, reason)
    ids, source = draw_ids(model), draw_source(model)
    tokens = ids.shape[1]
    if tokens < 2:
        return Check(name, None, tolerance, "the model looks back over a single token")
    cache = _new_cache(model, ROWS, tokens, source)
    model.decode(ids[:, : tokens // 2], cache=cache)
    cache.repeat(2)
    beams = draw_ids(model, 2 * ROWS, seed=3)  # each goes on in its own way
    beams[:, : tokens // 2] = ids[:, : tokens // 2].repeat_interleave(2, 0)
    third = max(tokens // 2 + 1, 3 * tokens // 4)
    scores = model.score(model.decode(beams[:, tokens // 2 : third], cache=cache))
    worst = largest_difference(scores, _of_beams(model, beams[:, :third], source)[:, tokens // 2 :])
    kept = torch.tensor([1, 0, 5, 5], device=ids.device)  # the second text is done
    cache.reorder(kept)
    if third < tokens:
        scores = model.score(model.decode(beams[kept, third:], cache=cache))
        fresh = _of_beams(model, beams[kept], _rows(source, [0, 2]))
        worst = _worse(worst, largest_difference(scores, fresh[:, third:]))
    return Check(name, worst, tolerance)


def _of_beams(model: Any, beams: Tensor, source: Tensor | None) -> Tensor:
    """Return the scores of rows of which two at a time belong to a text."""
    return scores_of(model, beams, None if source is None else source.repeat_interleave(2, 0))


@torch.no_grad()
def packed_is_separate(model: Any) -> Check:
    """Documents packed into one row score as each does by itself."""
    name, tolerance = "packed = separate", tolerance_of(model)
    if draw_source(model) is not None:
        return Check(name, None, tolerance, "an encoder-decoder reads one text a row")
    if isinstance(model, BagClassifier | CrfTagger):
        return Check(name, None, tolerance, "a model of n-grams reads one text a row")
    ids = draw_ids(model, rows=1)
    tokens = ids.shape[1]
    cuts = sorted({0, tokens // 4, tokens // 2 + 1, tokens})
    cuts = [cut for cut in cuts if cut <= tokens]
    starts = torch.zeros_like(ids)
    for begin, end in itertools.pairwise(cuts):
        starts[:, begin:end] = begin
    packed = scores_of(model, ids, starts=starts)
    separate = torch.cat([scores_of(model, ids[:, a:b]) for a, b in itertools.pairwise(cuts)], 1)
    return Check(name, largest_difference(packed, separate), tolerance)


@torch.no_grad()
def fast_is_plain(model: Any) -> Check:
    """The decoder that generation uses on a CPU scores as the model itself does."""
    name, tolerance = "fast decoding = plain", tolerance_of(model)
    ids = draw_ids(model)
    stateful = isinstance(model, Headed) or model.config.decoder is not None
    if reason := (stateful and reads_whole_texts(model)) or obstacle(model, len(ids)):
        return Check(name, None, tolerance, reason)
    first = max(1, ids.shape[1] - STEPS)
    scores = []
    for kind in (FastDecoder, lambda model, rows: TorchDecoder(model)):
        cache = _new_cache(model, len(ids), ids.shape[1], draw_source(model))
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
    ids, source, weight = draw_ids(model), draw_source(model), _weight(model)
    with tempfile.TemporaryDirectory(prefix="langmill-doctor-") as folder:
        save_checkpoint(folder, checkpoint)
        again = load_checkpoint(folder, dtype=weight.dtype, device=weight.device)
        difference = largest_difference(results_of(again.model, ids, source), results_of(model, ids, source))
    if checkpoint.tokenizer is not None and (
        again.tokenizer is None or again.tokenizer.fingerprint() != checkpoint.tokenizer.fingerprint()
    ):
        return Check(name, math.nan, 0.0, "the tokenizer changed")
    return Check(name, difference, 0.0)


MODEL_CHECKS: tuple[Callable[[Any], Check], ...] = (
    batched_is_single,
    padded_is_unpadded,
    cached_is_uncached,
    reordered_is_fresh,
    packed_is_separate,
    fast_is_plain,
)


def model_checks(model: Any) -> Iterator[Check]:
    """Yield each check of a model, which is put into evaluation mode."""
    model.eval()
    for check in MODEL_CHECKS:
        yield check(model)


@torch.no_grad()
def ours_is_transformers(folder: Path, model: Any, family_name: str = "") -> Check:
    """Transformers reads the folder to the same scores, where it is installed and knows the architecture."""
    name, tolerance = "ours = Transformers", tolerance_of(model)
    module = _transformers()
    if module is None:
        return Check(name, None, tolerance, "transformers is not installed")
    if is_adapter(folder) and importlib.util.find_spec("peft") is None:
        return Check(name, None, tolerance, "peft, with which Transformers reads adapters, is not installed")
    family = FAMILIES[family_name] if family_name else choose_family(model.config)
    architecture = family.architecture if model.config.has_output else family.bare
    if isinstance(model, Headed):
        architecture = head_layout(family, model.config.head.kind).architecture
        if is_adapter(folder):
            return Check(
                name, None, tolerance, "an adapter's head opens in PEFT alone, told how many labels it has"
            )
    if not hasattr(module, architecture):
        missing = architecture if isinstance(model, Headed) else family.name
        return Check(name, None, tolerance, f"transformers has no {missing}")
    kind = getattr(module, architecture)
    theirs = kind.from_pretrained(folder, local_files_only=True, dtype=_weight(model).dtype).eval()
    ids, source = draw_ids(model), draw_source(model)
    if scores_texts(model):
        ids = apart_from(ids, theirs.config.pad_token_id, model.config.vocabulary)
    given = {"input_ids": ids} if source is None else {"input_ids": source, "decoder_input_ids": ids}
    found = theirs.to(ids.device)(**given)
    if isinstance(model, Headed):
        ends = [found[name] for name in ("start_logits", "end_logits") if name in found]
        wanted = torch.stack(ends, -1) if ends else found.logits
    else:
        wanted = found.logits if model.config.has_output else found.last_hidden_state
    difference = largest_difference(results_of(model, ids, source), wanted)
    return Check(name, difference, tolerance, f"transformers {module.__version__}")


def apart_from(ids: Tensor, padding: int | None, vocabulary: int) -> Tensor:
    """Return ids without the one by which Transformers finds a text's end; a single row where there is none."""
    return ids[:1] if padding is None else torch.where(ids == padding, (padding + 1) % vocabulary, ids)


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


def _weight(model: Any) -> Tensor:
    """Return a weight, for its type and device."""
    return next(model.parameters())


def _rows(source: Tensor | None, rows: list[int]) -> Tensor | None:
    return None if source is None else source[rows]


def _new_cache(model: Any, rows: int, slots: int, source: Tensor | None) -> Any:
    """Return an empty cache, which knows what the encoder read if there is one."""
    if source is None:
        return model.new_cache(rows, slots)
    return model.new_cache(rows, slots, memory=model.encode(source))


def _worse(a: float, b: float) -> float:
    """Return the larger of two differences; one that is no number is the worst (`max` may lose it)."""
    return a if math.isnan(a) or a >= b else b
