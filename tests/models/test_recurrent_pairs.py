"""Recurrent encoders and encoder-decoders: the papers' equations, PyTorch's layers, and the equivalences."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from langmill.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from langmill.core.errors import ConfigError
from langmill.generation.generate import generate
from langmill.generation.rules import TokenRules
from langmill.generation.settings import SamplingSettings
from langmill.models.initialise import initialise_recurrent
from langmill.models.recurrent import Recurrent, RecurrentConfig, layer_sizes
from langmill.models.recurrent_layers import Memory, TextAttention
from langmill.tasks import task_of
from tests.models.recurrent_samples import drawn, token_ids

KINDS = ("lstm", "gru")
ATTENTIONS = ("luong", "bahdanau")


def make(kind: str, role: str, **changes) -> Recurrent:
    return drawn(kind, role=role, noise=0.3, **{"layers": 2, **changes})


@pytest.fixture(params=KINDS)
def encoder(request) -> Recurrent:
    return make(request.param, "encoder", layers=3)


@pytest.fixture(params=itertools.product(KINDS, ATTENTIONS), ids="-".join)
def pair(request) -> Recurrent:
    kind, attention = request.param
    return make(kind, "pair", attention=attention)


def close(a: torch.Tensor, b: torch.Tensor) -> bool:
    return torch.allclose(a, b, atol=2e-6)


# -- the encoder


@torch.no_grad()
def test_both_directions_as_in_torch(encoder):
    x = encoder.embed(token_ids())
    for layer, (inputs, outputs) in zip(encoder.encoder.layers, layer_sizes(encoder.config)):
        kind = nn.LSTM if encoder.config.kind == "lstm" else nn.GRU
        theirs = kind(inputs, outputs // 2, batch_first=True, bidirectional=True)
        for ours, suffix in ((layer.forwards, ""), (layer.backwards, "_reverse")):
            for name, weight in zip(("weight_ih", "weight_hh", "bias_ih", "bias_hh"), ours.weights()):
                getattr(theirs, f"{name}_l0{suffix}").copy_(weight)
        x, _ = theirs(x)
    assert close(encoder.encode(token_ids()), x)
    assert close(encoder(token_ids()), encoder.output(x))


@torch.no_grad()
def test_packed_is_separate_in_both_directions(encoder):
    documents = [token_ids(1, length, seed=length) for length in (4, 1, 6)]
    row = torch.cat(documents, 1)
    starts = torch.tensor([[0] * 4 + [4] + [5] * 6])
    separate = torch.cat([encoder.encode(document) for document in documents], 1)
    both = encoder.encode(row.repeat(2, 1), starts=torch.cat([starts, torch.zeros_like(starts)]))
    assert close(both[0], separate[0])
    assert close(both[1], encoder.encode(row)[0])
    half = encoder.config.width // 2
    for direction in (slice(0, half), slice(half, None)):  # each alone would leak
        assert not close(encoder.encode(row)[..., direction], separate[..., direction])


@torch.no_grad()
def test_padded_is_unpadded_on_either_side(encoder):
    ids, lengths = token_ids(), torch.tensor([10, 6, 1])
    for left in (False, True):
        places = torch.arange(10)
        valid = places >= 10 - lengths[:, None] if left else places < lengths[:, None]
        states = encoder.encode(ids, valid=valid)
        for row in range(3):
            assert close(states[row, valid[row]], encoder.encode(ids[row : row + 1, valid[row]])[0])
        assert not states[~valid].any()


# -- attention


def reference_scores(attention: TextAttention, query: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
    """One state's scores of others, as the papers write them."""
    if attention.additive:
        w, u, v = attention.query.weight, attention.key.weight, attention.energy
        return torch.stack([v @ torch.tanh(w @ query + u @ key) for key in keys])
    return torch.stack([query @ (attention.key.weight @ key) for key in keys])


@torch.no_grad()
def test_attention_against_the_papers_equations(pair):
    attention = pair.attention
    states, queries = pair.encode(token_ids(2, 7)), torch.randn(4, 3, 16)
    valid = torch.arange(7) < torch.tensor([7, 4])[:, None]
    memory = attention.memory(states, valid)
    weights, found = attention.weights(queries, memory), attention.find(queries, memory)
    assert close(weights.sum(-1), torch.ones(4, 3))
    assert not weights[2:, :, 4:].any()
    for row, place in itertools.product(range(4), range(3)):
        text = states[row // 2, valid[row // 2]]
        wanted = reference_scores(attention, queries[row, place], text).softmax(0)
        assert close(weights[row, place, : len(text)], wanted)
        assert close(found[row, place], wanted @ text)


def test_a_text_of_equal_states_is_looked_at_alike():
    """By hand: two equal keys share what a third leaves, exp(1) to exp(0)."""
    attention = TextAttention("luong", 2)
    with torch.no_grad():
        attention.key.weight.copy_(torch.eye(2))
    states = torch.tensor([[[1.0, 0.0], [1.0, 0.0], [0.0, 5.0]]])
    weights = attention.weights(torch.tensor([[[1.0, 0.0]]]), Memory(states, states, None))
    e = torch.e
    assert close(weights, torch.tensor([[[e, e, 1.0]]]) / (2 * e + 1))


def cell_of(model: Recurrent, number: int) -> nn.Module:
    """PyTorch's cell with the weights of a layer of the decoder."""
    layer = model.decoder.layers[number]
    kind = nn.LSTMCell if model.config.kind == "lstm" else nn.GRUCell
    cell = kind(layer.weight_input.shape[1], layer.outputs)
    for theirs, ours in zip((cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh), layer.weights()):
        theirs.copy_(ours)
    return cell


@torch.no_grad()
def test_the_decoder_token_by_token(pair):
    """The recurrences of Luong et al. 2015 and Bahdanau et al. 2015, one text, one token, one layer at a time."""
    source, target, width = token_ids(1, 6)[0], token_ids(1, 5, seed=2)[0], 16
    memory = pair.encode(source[None])[0]
    ends = torch.cat([memory[-1, : width // 2], memory[0, width // 2 :]])
    start = pair.bridge.weight @ ends + pair.bridge.bias
    lstm = pair.config.kind == "lstm"
    states = [(c.tanh(), c) if lstm else c.tanh() for c in start.split([24, 16])]
    cells = [cell_of(pair, number) for number in range(2)]
    wanted = []
    for token in target:
        e = y = pair.embed.weight[token]
        if pair.feeding:
            before = states[-1][0] if lstm else states[-1]
            context = reference_scores(pair.attention, before, memory).softmax(0) @ memory
            y = torch.cat([e, context])
        for number, cell in enumerate(cells):
            states[number] = cell(y, states[number])
            y = states[number][0] if lstm else states[number]
        if pair.feeding:
            parts = [context, y, e]
        else:
            parts = [reference_scores(pair.attention, y, memory).softmax(0) @ memory, y]
        wanted.append(torch.tanh(pair.attention.combine.weight @ torch.cat(parts)))
    assert close(pair.decode(target[None], memory=memory[None])[0], torch.stack(wanted))


# -- the pair


@torch.no_grad()
def test_the_source_padding_does_not_matter(pair):
    source, target = token_ids(1, 5), token_ids(1, 4, seed=2)
    alone = pair(source, decoder_ids=target)
    for places in (slice(0, 5), slice(3, 8)):
        wide, valid = token_ids(1, 8, seed=3), torch.zeros(1, 8, dtype=torch.bool)
        wide[:, places], valid[:, places] = source, True
        assert close(pair(wide, valid=valid, decoder_ids=target), alone)
        assert not close(pair(wide, decoder_ids=target), alone)


@torch.no_grad()
def test_the_target_padding_does_not_matter(pair):
    source, target, lengths = token_ids(3, 7), token_ids(3, 8, seed=2), torch.tensor([8, 5, 1])
    for left in (False, True):
        places = torch.arange(8)
        valid = places >= 8 - lengths[:, None] if left else places < lengths[:, None]
        logits = pair(source, decoder_ids=target, decoder_valid=valid)
        for row in range(3):
            alone = pair(source[row : row + 1], decoder_ids=target[row : row + 1, valid[row]])[0]
            assert close(logits[row, valid[row]], alone)


@pytest.mark.parametrize("cuts", [(0, 2, 3, 5), (0, 1, 2, 3, 4, 5), (0, 4, 5)])
@torch.no_grad()
def test_cached_is_uncached_and_rows_share_texts(pair, cuts):
    source, target = token_ids(2, 7), token_ids(6, 5, seed=2)
    valid = torch.arange(7) < torch.tensor([4, 7])[:, None]
    cache = pair.new_cache(6, 5, memory=pair.encode(source, valid=valid), memory_valid=valid)
    pieces = [pair.decode(target[:, a:b], cache=cache) for a, b in itertools.pairwise(cuts)]
    three = (each.repeat_interleave(3, 0) for each in (source, valid))
    whole = pair(next(three), valid=next(three), decoder_ids=target)
    assert close(pair.score(torch.cat(pieces, 1)), whole)
    assert len(cache.memory.keys) == 2 and cache.length == 5


@torch.no_grad()
def test_a_cache_with_padding_on_the_left(pair):
    source, target = token_ids(3, 7), token_ids(3, 8, seed=2)
    valid = torch.arange(8) >= torch.tensor([0, 3, 6])[:, None]
    cache = pair.new_cache(3, 8, memory=pair.encode(source))
    for a, b in ((0, 2), (2, 5), (5, 8)):
        states = pair.decode(target[:, a:b], valid=valid[:, a:b], cache=cache)
    for row, first in enumerate((0, 3, 6)):
        alone = pair(source[row : row + 1], decoder_ids=target[row : row + 1, first:])
        assert close(pair.score(states[row, -1]), alone[0, -1])


@torch.no_grad()
def test_a_text_that_is_done_leaves_the_cache(pair):
    source, target = token_ids(3, 7), token_ids(6, 5, seed=2)
    cache = pair.new_cache(6, 5, memory=pair.encode(source))
    pair.decode(target[:, :4], cache=cache)
    rows = torch.tensor([1, 0, 5, 5])  # the second text's two rows go
    cache.reorder(rows)
    last = pair.score(pair.decode(target[rows, 4:], cache=cache))
    assert close(last, pair(source[[0, 0, 2, 2]], decoder_ids=target[rows])[:, 4:])


def test_compiling_leaves_recurrent_stacks_alone(pair):
    for stack in (pair.encoder, pair.decoder):
        stack.compile(dynamic=False)
        assert stack._compiled_call_impl is None


def test_gradients_reach_every_weight(encoder, pair):
    encoder(token_ids()).square().sum().backward()
    pair(token_ids(), decoder_ids=token_ids(seed=2)).square().sum().backward()
    for model in (encoder, pair):
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_dropout_is_the_same_at_every_token(attention):
    model = make("lstm", "pair", attention=attention, dropout=0.5).train()
    states = model.encode(token_ids())
    assert ((states == 0).all(1) | (states != 0).all(1)).all() and (states == 0).any()
    torch.manual_seed(0)
    seen: list[torch.Tensor] = []
    model.attention.register_forward_pre_hook(lambda _, parts: seen.append(parts[1]))
    model.decode(token_ids(), memory=states)
    assert ((seen[0] == 0).all(1) | (seen[0] != 0).all(1)).all() and (seen[0] == 0).any()


def test_dropped_weights_stay_dropped_for_a_whole_text():
    """They are drawn once a text, though its tokens are read one by one."""
    model = make("gru", "pair", attention="bahdanau", weight_drop=0.5).train()
    ids, memory = token_ids(1, 6), torch.zeros(1, 4, 16)
    sound, times = model.decoder.draw, []
    model.decoder.draw = lambda count: times.append(count) or sound(count)
    model.decode(ids, memory=memory)
    assert times == [1]
    assert not close(model.decode(ids, memory=memory), model.decode(ids, memory=memory))


@pytest.mark.parametrize("role", ["encoder", "pair"])
@torch.no_grad()
def test_saved_and_loaded(tmp_path, encoder, pair, role):
    model = encoder if role == "encoder" else pair
    save_checkpoint(tmp_path, Checkpoint(model))
    again = load_checkpoint(tmp_path)
    assert (again.family, again.model.config) == ("langmill_recurrent", model.config)
    given = {"decoder_ids": token_ids(seed=2)} if role == "pair" else {}
    assert torch.equal(again.model(token_ids(), **given), model(token_ids(), **given))
    assert task_of(again.model) == {"encoder": "mlm", "pair": "denoise"}[role]


# -- search and learning


class Codec:
    """A tokenizer of nothing."""

    bos_id = eos_id = None

    def encode(self, text, *, special=False):
        return [int(word) for word in text.split()]

    def decode(self, ids, *, skip_special=True):
        return " ".join(map(str, ids))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("attention", ATTENTIONS)
@torch.no_grad()
def test_a_wide_beam_is_exhaustive(kind, attention):
    """With as many beams as there are texts, the best of all texts of three tokens is found."""
    model = make(kind, "pair", attention=attention, vocabulary=7)
    source, sums = [1, 2, 5, 3], {}
    for text in itertools.product(range(7), repeat=3):
        logs = model(torch.tensor([source]), decoder_ids=torch.tensor([[0, *text[:2]]])).log_softmax(-1)[0]
        sums[text] = float(logs.gather(1, torch.tensor(text)[:, None]).sum())
    settings = SamplingSettings(max_tokens=3, beams=49, alternatives=5, length_penalty=0)
    [result] = generate(model, Codec(), [source], settings, rules=TokenRules(start=0))
    best = sorted(sums, key=lambda text: -sums[text])[:5]
    assert [result.tokens, *(each.tokens for each in result.alternatives)] == best
    assert result.score == pytest.approx(sums[best[0]], abs=1e-5)


@pytest.mark.parametrize("beams", [1, 3])
def test_batched_generation_is_single(pair, beams):
    prompts = [[1, 2, 3, 4], [5], [6, 7]]
    settings = SamplingSettings(max_tokens=6, temperature=0, beams=beams)
    rules = TokenRules(ends=(0,), start=1)
    together = generate(pair, Codec(), prompts, settings, rules=rules)
    for prompt, result in zip(prompts, together):
        [alone] = generate(pair, Codec(), [prompt], settings, rules=rules)
        assert alone.tokens == result.tokens


REVERSING = {"vocabulary": 10, "layers": 1, "width": 48, "tie_output": False}


def learn_to_reverse(model: Recurrent, *, steps: int) -> float:
    """Train on texts drawn anew for each step; return the share of tokens that are right in ten unseen ones."""
    initialise_recurrent(model, torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(3)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 0.01 * (1 - step / steps)
        source = torch.randint(1, 10, (32, 12), generator=generator)
        wanted = source.flip(1)
        read = torch.cat([torch.zeros(32, 1, dtype=torch.long), wanted[:, :-1]], 1)
        optimizer.zero_grad()
        logits = model(source, decoder_ids=read)
        nn.functional.cross_entropy(logits.flatten(0, 1), wanted.flatten()).backward()
        optimizer.step()
    source = torch.randint(1, 10, (10, 12), generator=generator)
    settings = SamplingSettings(max_tokens=12, temperature=0)
    answers = generate(model.eval(), Codec(), source.tolist(), settings, rules=TokenRules(start=0))
    found = torch.tensor([answer.tokens for answer in answers])
    return float((found == source.flip(1)).float().mean())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("attention", ATTENTIONS)
def test_it_learns_to_reverse(kind, attention):
    model = Recurrent(RecurrentConfig(kind=kind, role="pair", attention=attention, **REVERSING))
    assert learn_to_reverse(model, steps=300) > 0.98


def test_without_attention_it_does_not(monkeypatch):
    """The same model that looks at all states alike has only its first state to go by."""
    sound = TextAttention.weights
    monkeypatch.setattr(TextAttention, "weights", lambda self, q, m: sound(self, q * 0, m))
    model = Recurrent(RecurrentConfig(role="pair", **REVERSING))
    assert learn_to_reverse(model, steps=300) < 0.9


@pytest.mark.parametrize("name", ["width", "hidden"])
def test_half_of_an_odd_width_is_refused(name):
    sizes = {"width": 8, "hidden": 8, name: 7}
    with pytest.raises(ConfigError, match=f"model.{name}: 7 is not allowed; half of an encoder's channels"):
        RecurrentConfig(vocabulary=9, layers=1, role="encoder", **sizes)
    RecurrentConfig(vocabulary=9, layers=1, **sizes)
