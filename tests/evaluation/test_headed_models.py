"""What `doctor`, `info`, `generate` and `evaluate` say of a model with a head."""

from __future__ import annotations

import pytest
import torch

from langmill.checkpoint import Checkpoint, put_head, save_checkpoint
from langmill.core.errors import ConfigError
from langmill.evaluation.anatomy import anatomy
from langmill.evaluation.checkup import check_checkpoint
from langmill.evaluation.equivalences import model_checks, ours_is_transformers, padded_is_unpadded
from langmill.evaluation.windows import choose_reach
from langmill.generation.chat import answer
from langmill.generation.generate import generate
from langmill.models import heads
from langmill.models.config import bert_encoder, default_decoder, default_encoder
from langmill.models.families import FAMILIES, head_for
from langmill.models.initialise import initialise_recurrent
from langmill.models.recurrent import Recurrent, RecurrentConfig
from langmill.models.transformer import Transformer
from tests.checkpoint.conftest import perturb
from tests.checkpoint.folder_samples import new_tokenizer

SIZES = {"layers": 2, "width": 16, "heads": 2, "context": 32}
KINDS = ("text", "tokens", "span")
BODIES = {
    "qwen3": lambda: Transformer(default_decoder(12, **SIZES)),
    "bert": lambda: Transformer(bert_encoder(12, **SIZES)),
    "eurobert": lambda: Transformer(default_encoder(12, **SIZES)),
    "langmill_recurrent": lambda: Recurrent(
        RecurrentConfig(vocabulary=12, role="encoder", layers=2, width=16)
    ),
}


def headed(family: str, kind: str) -> Checkpoint:
    torch.manual_seed(0)
    plain = Checkpoint(BODIES[family](), new_tokenizer(), family)
    if isinstance(plain.model, Recurrent):  # whose weights hold nothing yet
        initialise_recurrent(plain.model, torch.Generator().manual_seed(0))
    head = head_for(FAMILIES[family], kind, () if kind == "span" else ("x", "y"))
    checkpoint = put_head(plain, head, torch.Generator().manual_seed(0))
    perturb(checkpoint.model)
    return checkpoint


@pytest.mark.parametrize("family", BODIES)
@pytest.mark.parametrize("kind", KINDS)
def test_the_doctor_finds_nothing_wrong(tmp_path, family, kind):
    save_checkpoint(tmp_path, headed(family, kind))
    found = {check.name: check for check in check_checkpoint(tmp_path)}
    assert all(check.ok for check in found.values())
    assert found["opens"].note.endswith(f"head for {kind}")
    assert found["cached = uncached"].note == "a model with a head continues no text"
    for name in ("batched = single", "padded = unpadded", "packed = separate", "saved and loaded = original"):
        assert found[name].status == "ok"
    known = family != "langmill_recurrent" and (family, kind) != ("eurobert", "span")
    pytest.importorskip("transformers")
    assert found["ours = Transformers"].status == ("ok" if known else "skipped")


@pytest.mark.parametrize("kind", KINDS)
def test_the_doctor_sees_other_scores(tmp_path, kind):
    pytest.importorskip("transformers")
    checkpoint = headed("qwen3", kind)
    save_checkpoint(tmp_path, checkpoint)
    with torch.no_grad():
        checkpoint.model.output.weight.copy_(checkpoint.model.output.weight.roll(1, 0))
    assert ours_is_transformers(tmp_path, checkpoint.model).status == "FAILED"


def test_the_doctor_sees_a_head_that_reads_padding(monkeypatch):
    model = headed("eurobert", "text").model
    assert padded_is_unpadded(model).ok
    right = heads.pool
    monkeypatch.setattr(heads, "pool", lambda states, valid, pooling: right(states, None, pooling))
    assert not padded_is_unpadded(model).ok


def test_checks_are_named_alike():
    names = [check.name for check in model_checks(headed("bert", "text").model)]
    assert len(names) == len(set(names)) == 6


@pytest.mark.parametrize(
    ("family", "kind", "line"),
    [
        ("bert", "text", "scores    first token → linear → tanh → 2 labels of a text: x, y"),
        ("eurobert", "text", "scores    tokens → linear → gelu → mean → 2 labels of a text: x, y"),
        ("qwen3", "text", "scores    last token → 2 labels of a text: x, y"),
        ("langmill_recurrent", "tokens", "scores    each token → 2 labels of a token: x, y"),
        ("bert", "span", "scores    each token as a span's first and as its last"),
    ],
)
def test_anatomy(family, kind, line):
    model = headed(family, kind).model
    found = anatomy(model)
    assert found.drawing[-1] == line
    assert sum("scores" in each for each in found.drawing) == 1
    assert found.cache_numbers_per_token == 0
    assert found.total == sum(p.numel() for p in model.parameters())
    per_token = anatomy(headed(family, "text").model).flops_per_token
    assert found.flops_per_token == per_token + (0 if kind == "text" else 2 * 2 * 16)


def test_no_text_comes_of_a_head():
    checkpoint = headed("qwen3", "text")
    tokenizer = new_tokenizer()
    with pytest.raises(
        ConfigError, match="is a classifier, and generates no text; ask it with `langmill predict`"
    ):
        generate(checkpoint.model, tokenizer, ["ab"])
    with pytest.raises(ConfigError, match="is a classifier, and generates no text"):
        answer(checkpoint.model, tokenizer, [])
    with pytest.raises(ConfigError, match="does not predict a text's next token"):
        choose_reach(checkpoint.model)
