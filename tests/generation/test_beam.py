"""Beam search: by hand, and against Transformers."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from langmill.checkpoint import load_checkpoint
from langmill.generation.beam import PIECE, largest
from langmill.generation.generate import generate
from langmill.generation.rules import TokenRules, token_rules
from langmill.generation.settings import SamplingSettings
from langmill.models.config import default_decoder
from langmill.models.transformer import Transformer
from tests.checkpoint.conftest import ENCODER_DECODERS, make_reference  # noqa: F401

SEEDS = range(10)
SPREAD = 1.5


class Codec:
    """A tokenizer of nothing: ids in, their numbers out."""

    bos_id = eos_id = None

    def encode(self, text, *, special=False):
        return [int(word) for word in text.split()]

    def decode(self, ids, *, skip_special=True):
        return "".join(f"{number} " for number in ids)


def randomise(model: torch.nn.Module, seed: int) -> None:
    """Draw weights under which texts depend on their context: a model that repeats itself has many texts of equal
    score."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.requires_grad:
                shape = weight.shape
                weight.copy_(torch.randn(shape, generator=generator) * (SPREAD / shape[-1] ** 0.5))
                if weight.dim() == 1 and name.endswith("weight"):
                    weight.copy_(1 + 0.2 * torch.randn(shape, generator=generator))


def sources() -> list[list[int]]:
    ids = torch.randint(5, 61, (3, 9), generator=torch.Generator().manual_seed(4)).tolist()
    return [ids[0], ids[1][:5], ids[2][:2]]


def padded(rows: list[list[int]], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    longest = max(map(len, rows))
    ids = torch.tensor([row + [pad] * (longest - len(row)) for row in rows])
    return ids, torch.arange(longest) < torch.tensor([len(row) for row in rows])[:, None]


def compare(model, ours, settings: dict, theirs: dict) -> None:
    """Require the same texts and scores as `generate` of Transformers."""
    rows = sources()
    ids, valid = padded(rows, model.config.pad_token_id)
    best = settings.get("alternatives", 1)
    found = model.generate(
        input_ids=ids,
        attention_mask=valid.long(),
        num_return_sequences=best,
        max_new_tokens=12,
        return_dict_in_generate=True,
        output_scores=True,
        do_sample=False,
        **theirs,
    )
    rules = token_rules(None, model.config.to_dict(), model.generation_config.to_diff_dict())
    results = generate(ours, Codec(), rows, SamplingSettings(max_tokens=12, **settings), rules=rules)
    flat = [each for result in results for each in (result, *result.alternatives)]
    assert len(flat) == len(found.sequences)
    for result, sequence, score in zip(flat, found.sequences.tolist(), found.sequences_scores.tolist()):
        kept = list(itertools.takewhile(lambda token: token not in rules.ends, sequence[1:]))
        assert list(result.tokens) == kept
        assert result.score == pytest.approx(score, abs=2e-5)


@pytest.mark.parametrize("case", ["bart", "marian", "t5-even"])
@pytest.mark.parametrize("seed", SEEDS)
def test_same_as_transformers(tmp_path, make_reference, case, seed):  # noqa: F811
    reference = make_reference(case)
    model = type(reference.model)(reference.model.config).eval()
    randomise(model, seed)
    model.save_pretrained(tmp_path)
    ours = load_checkpoint(tmp_path).model
    compare(model, ours, {"beams": 4, "alternatives": 3}, {"num_beams": 4})


@pytest.mark.parametrize("penalty", [0.0, 0.6, 2.0])
@pytest.mark.parametrize("early", ["no", "yes", "never"])
def test_penalties_and_stopping(tmp_path, make_reference, penalty, early):  # noqa: F811
    reference = make_reference("bart")
    model = type(reference.model)(reference.model.config).eval()
    randomise(model, 3)
    with torch.no_grad():
        model.final_logits_bias[0, 2] = 2.0  # texts end now and then
    model.save_pretrained(tmp_path)
    theirs = {"no": False, "yes": True, "never": "never"}[early]
    compare(
        model,
        load_checkpoint(tmp_path).model,
        {"beams": 3, "alternatives": 3, "length_penalty": penalty, "early_stopping": early},
        {"num_beams": 3, "length_penalty": penalty, "early_stopping": theirs},
    )


def test_rules_as_in_transformers(tmp_path, make_reference):  # noqa: F811
    reference = make_reference("marian")
    model = type(reference.model)(reference.model.config).eval()
    randomise(model, 5)
    model.generation_config.update(forced_bos_token_id=7, forced_eos_token_id=2, bad_words_ids=[[3], [9]])
    model.save_pretrained(tmp_path)
    compare(
        model,
        load_checkpoint(tmp_path).model,
        {"beams": 4, "no_repeat_ngram": 2, "min_tokens": 5, "repetition_penalty": 1.3},
        {"num_beams": 4, "no_repeat_ngram_size": 2, "min_new_tokens": 5, "repetition_penalty": 1.3},
    )


@pytest.fixture
def tiny() -> Transformer:
    model = Transformer(default_decoder(7, layers=1, width=16, heads=2, context=12)).eval()
    randomise(model, 1)
    return model


@torch.no_grad()
def test_wide_enough_it_is_exhaustive(tiny):
    """With as many beams as there are texts, the best of all texts of three tokens is found."""
    prompt, sums = [1, 2], {}
    for text in itertools.product(range(7), repeat=3):
        ids = torch.tensor([[*prompt, *text]])
        logs = tiny(ids).log_softmax(-1)[0, len(prompt) - 1 : -1]
        sums[text] = float(logs.gather(1, torch.tensor(text)[:, None]).sum())
    settings = SamplingSettings(max_tokens=3, beams=49, alternatives=5, length_penalty=0)
    [result] = generate(tiny, Codec(), [prompt], settings, rules=TokenRules())
    best = sorted(sums, key=lambda text: -sums[text])[:5]
    assert [result.tokens, *(each.tokens for each in result.alternatives)] == best
    assert result.score == pytest.approx(sums[best[0]], abs=1e-5)
    assert sum(result.logprobs) == pytest.approx(result.score, abs=1e-5)


def test_batched_is_single(tiny):
    prompts = [[1, 2, 3], [4], [5, 6]]
    settings = SamplingSettings(max_tokens=6, beams=3, alternatives=2)
    rules = TokenRules(ends=(0,))
    together = generate(tiny, Codec(), prompts, settings, rules=rules)
    alone = [generate(tiny, Codec(), [prompt], settings, rules=rules)[0] for prompt in prompts]
    for a, b in zip(together, alone):
        assert a.tokens == b.tokens and a.score == pytest.approx(b.score, abs=1e-5)


def test_one_beam_is_greedy(tiny):
    [greedy] = generate(
        tiny, Codec(), [[1, 2]], SamplingSettings(max_tokens=6, temperature=0), rules=TokenRules()
    )
    [beam] = generate(
        tiny, Codec(), [[1, 2]], SamplingSettings(max_tokens=6, beams=2, length_penalty=0), rules=TokenRules()
    )
    assert beam.score >= sum(greedy.logprobs) - 1e-5
    assert math.isfinite(beam.score)


@pytest.mark.parametrize("size", [5, PIECE, 17 * PIECE, 40 * PIECE + 3])
def test_the_largest_are_those_of_topk(size: int) -> None:
    x = torch.randn(2, 3, size, generator=torch.Generator().manual_seed(size))
    x[0, 1, -2:] = torch.tensor([9.0, 10.0])  # in the piece that is not whole
    x[1, 2, : size // 2] = -math.inf
    for found, wanted in zip(largest(x, 5), x.topk(5)):
        assert torch.equal(found, wanted)
