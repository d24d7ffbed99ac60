"""Generation: against Transformers, against itself in other batches, and what it refuses."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM

from langmill.core.errors import ConfigError, DataError, LangmillError
from langmill.generation import generate as module
from langmill.generation.generate import generate, prompt_ids
from langmill.generation.rules import TokenRules, token_rules
from langmill.generation.settings import SamplingSettings

GREEDY = SamplingSettings(temperature=0, max_tokens=20)
PROMPTS = ["Hi", "The quick brown fox", "从前有座山", "x"]


@pytest.fixture(params=["kernels", "torch"])
def way(request: pytest.FixtureRequest, torch_only) -> None:
    """Run a test with the compiled kernels and with plain torch."""
    if request.param == "torch":
        torch_only()
    else:
        pytest.importorskip("numba")


def tokens_of(results) -> list[tuple[int, ...]]:
    return [result.tokens for result in results]


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("penalty", [1.0, 1.4])
def test_greedy_as_transformers(model, codec, tmp_path, penalty: float) -> None:
    from langmill.checkpoint.folder import Checkpoint, save_checkpoint

    save_checkpoint(tmp_path / "model", Checkpoint(model))
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    settings = SamplingSettings(temperature=0, max_tokens=20, repetition_penalty=penalty)
    ours = generate(model, codec, PROMPTS, settings, rules=TokenRules())
    for prompt, result in zip(PROMPTS, ours):
        ids = torch.tensor([codec.encode(prompt)])
        out = theirs.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=20, do_sample=False, eos_token_id=None,
            pad_token_id=0, repetition_penalty=penalty,
        )  # fmt: skip
        assert list(result.tokens) == out[0, ids.shape[1] :].tolist()
        assert result.prompt_tokens == ids.shape[1]


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize(
    "changes",
    [
        {"temperature": 0},
        {"temperature": 0.9},
        {"temperature": 1.2, "top_k": 30, "top_p": 0.9, "min_p": 0.01, "repetition_penalty": 1.3, "seed": 4},
    ],
)
def test_batched_as_single(model, codec, changes: dict) -> None:
    settings = SamplingSettings(max_tokens=25, **changes)
    together = generate(model, codec, PROMPTS, settings)
    alone = [generate(model, codec, [prompt], settings)[0] for prompt in PROMPTS]
    assert tokens_of(together) == tokens_of(alone)
    assert [result.text for result in together] == [result.text for result in alone]
    for a, b in zip(together, alone):
        assert a.logprobs == pytest.approx(b.logprobs, abs=1e-4)
    assert tokens_of(generate(model, codec, PROMPTS, settings, batch_rows=3)) == tokens_of(alone)


@pytest.mark.usefixtures("way")
def test_cached_as_uncached(model, codec) -> None:
    ids = codec.encode("Es war einmal")
    [result] = generate(model, codec, [ids], GREEDY, rules=TokenRules())
    row = list(ids)
    with torch.no_grad():
        for token, logprob in zip(result.tokens, result.logprobs, strict=True):
            table = model(torch.tensor([row]))[0, -1].log_softmax(-1)
            assert token == int(table.argmax())
            assert logprob == pytest.approx(float(table[token]), abs=1e-4)
            row.append(token)
    assert len(result.tokens) == 20
    assert result.finish_reason == "length"


def test_logprobs_are_of_the_unfiltered_model(model, codec) -> None:
    settings = SamplingSettings(temperature=2.0, top_k=50, repetition_penalty=1.5, max_tokens=5)
    [result] = generate(model, codec, ["abc"], settings, rules=TokenRules())
    row = codec.encode("abc")
    for token, logprob in zip(result.tokens, result.logprobs):
        with torch.no_grad():
            assert logprob == pytest.approx(
                float(model(torch.tensor([row]))[0, -1].log_softmax(-1)[token]), abs=1e-4
            )
        row.append(token)


@pytest.mark.usefixtures("way")
def test_kernels_and_torch_sample_the_same(model, codec, torch_only) -> None:
    settings = SamplingSettings(max_tokens=30, seed=3)
    first = generate(model, codec, PROMPTS, settings)
    torch_only()
    assert tokens_of(generate(model, codec, PROMPTS, settings)) == tokens_of(first)


def test_seeds(model, codec) -> None:
    def sample(seed: int) -> list[tuple[int, ...]]:
        return tokens_of(generate(model, codec, PROMPTS, SamplingSettings(max_tokens=12, seed=seed)))

    assert sample(1) == sample(1)
    assert sample(1) != sample(2)


def test_equal_prompts_give_different_samples(model, codec) -> None:
    results = generate(model, codec, ["once", "once", "twice"], SamplingSettings(max_tokens=12))
    assert results[0].tokens != results[1].tokens
    alone = generate(model, codec, ["once"], SamplingSettings(max_tokens=12))
    assert alone[0].tokens == results[0].tokens


def scripted(monkeypatch: pytest.MonkeyPatch, *texts: str | list[int]) -> None:
    """Make generation choose the tokens of `texts`, one text a row, whatever the model says."""
    rows = [list(text.encode()) if isinstance(text, str) else text for text in texts]
    step = iter(range(1000))

    def choose(scores, settings, *, seen, generators):
        at = next(step)
        return torch.tensor([row[min(at, len(row) - 1)] for row in rows[: len(generators)]])

    monkeypatch.setattr(module, "choose", choose)


def test_stop_strings_across_tokens(model, codec, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch, "第一句。\n\nUser: more")
    settings = SamplingSettings(stop=("User:", "\n\nUs"), max_tokens=30)
    pieces: list[str] = []
    [result] = generate(model, codec, ["p"], settings, on_text=pieces.append)
    assert result.text == "第一句。" == "".join(pieces)
    assert result.finish_reason == "stop"
    assert bytes(result.tokens).decode() == "第一句。\n\nUs"  # the tokens tell what was generated
    assert len(result.logprobs) == len(result.tokens)
    assert pieces == ["第", "一", "句", "。"]


def test_the_end_token_ends(model, codec, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch, [65, 66, 256, 67])
    [result] = generate(model, codec, ["p"], GREEDY)
    assert (result.text, result.tokens, result.finish_reason) == ("AB", (65, 66), "stop")
    scripted(monkeypatch, [65, 66, 67])
    [result] = generate(model, codec, ["p"], GREEDY, rules=TokenRules(ends=(66,)))
    assert result.tokens == (65,)
    scripted(monkeypatch, [256])
    [result] = generate(model, codec, ["p"], GREEDY)
    assert (result.text, result.tokens, result.logprobs) == ("", (), ())


def test_a_character_cut_by_max_tokens(model, codec, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch, "好的")
    [result] = generate(model, codec, ["p"], SamplingSettings(max_tokens=5))
    assert result.text == "好\N{REPLACEMENT CHARACTER}"
    assert result.finish_reason == "length"


@pytest.mark.usefixtures("way")
def test_the_context_ends(make_model, codec, capsys: pytest.CaptureFixture[str]) -> None:
    model = make_model(max_positions=12)
    settings = SamplingSettings(temperature=0, max_tokens=20)
    results = generate(model, codec, ["ab", "abcdefghijk", "abcdef"], settings, rules=TokenRules())
    assert [len(result.tokens) for result in results] == [10, 1, 6]
    assert {result.finish_reason for result in results} == {"length"}
    assert "3 of 3 texts ended with the model's context of 12 tokens" in capsys.readouterr().err
    alone = [
        generate(model, codec, [p], settings, rules=TokenRules())[0] for p in ("ab", "abcdefghijk", "abcdef")
    ]
    assert tokens_of(results) == tokens_of(alone)


def test_a_long_prompt_is_read_in_parts(model, codec, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts = ["a long enough prompt 长", "short"]
    whole = generate(model, codec, prompts, GREEDY)
    monkeypatch.setattr(module, "PREFILL_TOKENS", 4)
    parts = generate(model, codec, prompts, GREEDY)
    assert tokens_of(parts) == tokens_of(whole)


def test_empty_prompts(model, codec) -> None:
    assert tokens_of(generate(model, codec, [""], GREEDY)) == tokens_of(
        generate(model, codec, [[256]], GREEDY)
    )
    codec.bos_id = 1
    assert prompt_ids(codec, "") == [1]
    codec.bos_id = codec.eos_id = None
    with pytest.raises(DataError, match="empty.*bos or eos"):
        generate(model, codec, [""], GREEDY)


def test_bos_is_added_where_the_tokenizer_adds_it(codec, monkeypatch: pytest.MonkeyPatch) -> None:
    codec.bos_id = 1
    assert prompt_ids(codec, "a") == [97]
    monkeypatch.setattr(codec, "encode", lambda text, special=False: [1, 97, 256] if special else [97])
    assert prompt_ids(codec, "a") == [1, 97]
    assert prompt_ids(codec, [97]) == [97]


def test_no_prompts(model, codec) -> None:
    assert generate(model, codec, [], GREEDY) == []


def test_mistakes_are_named(make_model, codec) -> None:
    model = make_model(max_positions=16)
    with pytest.raises(DataError, match=r"prompt 2 has 16 tokens; the model reads 16.*may have 15"):
        generate(model, codec, ["a", "b" * 16], GREEDY)
    with pytest.raises(DataError, match="token id 300"):
        generate(model, codec, [[300]], GREEDY)
    with pytest.raises(ConfigError, match="one prompt at a time; 2 were given"):
        generate(model, codec, ["a", "b"], GREEDY, on_text=print)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("temperature", [0, 1])
def test_a_diverged_model_is_told(make_model, codec, temperature: float) -> None:
    model = make_model()
    with torch.no_grad():
        model.decoder.blocks[0].feed_forward.down.bias[3] = torch.nan
    with pytest.raises(LangmillError, match="NaN"):
        generate(model, codec, ["a"], SamplingSettings(temperature=temperature))


def test_training_mode_is_put_back(make_model, codec) -> None:
    model = make_model(dropout=0.5).train()
    first = generate(model, codec, ["a"], GREEDY)
    assert model.training
    assert generate(model, codec, ["a"], GREEDY) == first  # no dropout while generating


def test_end_tokens() -> None:
    assert token_rules(256, {}, {}).ends == (256,)
    assert token_rules(256, {}, {"eos_token_id": [7, 256]}).ends == (7, 256)
    assert token_rules(256, {}, {"eos_token_id": 9}).ends == (9, 256)
    assert token_rules(None, {"eos_token_id": 9}, {}).ends == (9,)
