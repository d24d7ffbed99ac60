"""Adapters of models with heads: PEFT's open here and ours open in PEFT, with equal scores and the labels."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from langmill.checkpoint import load_checkpoint, put_head, save_checkpoint
from langmill.checkpoint.adapters import CONFIG, HEAD, WEIGHTS, save_adapter
from langmill.core.errors import CheckpointError
from langmill.models.adapters import Form, adapt, adapted_layers, choose_layers
from langmill.models.families import FAMILIES, head_for
from tests.checkpoint.conftest import perturb
from tests.checkpoint.test_parity_heads import KINDS, LABELS, TOLERANCE, difference, padded

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning"
)

BASES = {"bert": "Bert", "roberta": "Roberta", "eurobert": "EuroBert", "gpt2": "GPT2", "llama": "Llama"}
MATRIX = [(case, kind) for case in BASES for kind in KINDS if (case, kind) != ("eurobert", "span")]
TARGETS = {
    "bert": ["query", "value", "intermediate.dense"],
    "roberta": ["query", "value"],
    "gpt2": ["c_attn"],
}
PADS = {"pad_token_id": 0}


def seeded(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def auto_model(reference: Any, kind: str) -> Any:
    """Return Transformers' model of a kind over a reference's body, its head at random."""
    import transformers

    names = {} if kind == "span" else {"num_labels": len(LABELS)}
    auto = getattr(transformers, f"AutoModelFor{KINDS[kind]}")
    torch.manual_seed(3)
    model = auto.from_pretrained(reference.folder, **names)
    if (
        type(model).__name__ == "LlamaForQuestionAnswering"
    ):  # which does not find its body under another prefix
        body = transformers.AutoModel.from_pretrained(reference.folder)
        model.transformer.load_state_dict(body.state_dict())
    model.config.pad_token_id = model.config.pad_token_id or 0
    return model.eval()


@pytest.fixture
def base(make_reference):
    """Return a function from a case to its reference; GPT-2 with what pads a text."""

    def make(case: str) -> Any:
        reference = make_reference(case)
        theirs = json.loads((reference.folder / "config.json").read_text())
        if theirs.get("pad_token_id") is None:
            (reference.folder / "config.json").write_text(json.dumps({**theirs, **PADS}))
        return reference

    return make


def write_ours(reference: Any, folder: Path, kind: str, *targets: str, **settings: Any) -> Any:
    """Put a head and an adapter on a checkpoint, give both random weights, write them; return the checkpoint."""
    plain = load_checkpoint(reference.folder, tokenizer=False)
    family = FAMILIES[plain.family]
    head = head_for(family, kind, () if kind == "span" else LABELS, **settings)
    checkpoint = put_head(plain, head, seeded())
    layers = choose_layers(family, checkpoint.model, targets)
    adapt(checkpoint.model, dict.fromkeys(layers.values(), Form(3, 2.5)), seeded())
    trained = {name for name, weight in checkpoint.model.named_parameters() if weight.requires_grad}
    assert trained == {
        name
        for name, _ in checkpoint.model.named_parameters()
        if "lora_" in name or name.startswith(("transform.", "output."))
    }
    perturb(checkpoint.model, seed=3, deviation=0.05)
    save_adapter(folder, checkpoint, base=str(reference.folder))
    return checkpoint


@pytest.mark.parametrize(("case", "kind"), MATRIX)
def test_ours_opens_in_peft(tmp_path, base, case, kind):
    peft = pytest.importorskip("peft")
    reference = base(case)
    checkpoint = write_ours(reference, tmp_path, kind)
    model = auto_model(reference, kind)
    if case == "eurobert" and kind == "text":
        assert model.classifier_pooling == "late"
    theirs = peft.PeftModel.from_pretrained(model, tmp_path).eval()
    assert difference(checkpoint.model, theirs) <= TOLERANCE
    tasks = {"text": "SEQ_CLS", "tokens": "TOKEN_CLS", "span": "QUESTION_ANS"}
    assert json.loads((tmp_path / CONFIG).read_text())["task_type"] == tasks[kind]
    again = load_checkpoint(tmp_path, merge=False)
    assert adapted_layers(again.model) and again.model.config == checkpoint.model.config
    ids, valid = padded(theirs)
    assert torch.equal(again.model(ids, valid=valid), checkpoint.model(ids, valid=valid))
    merged = load_checkpoint(tmp_path)
    assert not adapted_layers(merged.model)
    assert difference(merged.model, theirs) <= TOLERANCE
    save_checkpoint(tmp_path / "whole", merged)
    assert difference(load_checkpoint(tmp_path / "whole").model, theirs) <= TOLERANCE


@pytest.mark.parametrize(("case", "kind"), MATRIX)
def test_theirs_opens_here(tmp_path, base, case, kind):
    """PEFT keeps a text's `classifier` or `score` whole, and no labels; EuroBERT's other layer when told so."""
    peft = pytest.importorskip("peft")
    reference = base(case)
    names = {"text": "SEQ_CLS", "tokens": "TOKEN_CLS", "span": "QUESTION_ANS"}
    whole = {("eurobert", "text"): ["dense"], ("bert", "text"): ["pooler.dense"]}.get((case, kind))
    config = peft.LoraConfig(
        r=4,
        lora_alpha=6,
        task_type=names[kind],
        modules_to_save=whole,
        target_modules=TARGETS.get(case, ["q_proj", "down_proj"]),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = peft.get_peft_model(auto_model(reference, kind), config).eval()
    theirs.peft_config["default"].base_model_name_or_path = str(reference.folder)
    for name, weight in theirs.named_parameters():
        if weight.requires_grad:
            with torch.no_grad():
                weight.add_(torch.randn(weight.shape, generator=seeded(len(name))) * 0.1)
    theirs.save_pretrained(tmp_path)
    assert not (tmp_path / HEAD).exists()
    ours = load_checkpoint(tmp_path).model
    assert ours.config.head.kind == kind
    if kind != "span":
        assert ours.config.head.labels == ("LABEL_0", "LABEL_1", "LABEL_2")
    assert difference(ours, theirs) <= TOLERANCE
    body = load_checkpoint(reference.folder).model
    ids = padded(theirs)[0]
    states = body.encode(ids) if body.encoder is not None else body.decode(ids)
    assert (ours.encode(ids) - states).abs().max() > 1e-3  # the adapter does something


def test_labels_come_from_a_base_that_has_as_many(tmp_path, base):
    reference = base("llama")
    first = put_head(load_checkpoint(reference.folder), head_for(FAMILIES["llama"], "text", LABELS), seeded())
    save_checkpoint(tmp_path / "base", first)
    write_ours(type("Base", (), {"folder": tmp_path / "base"}), tmp_path / "adapter", "text")
    (tmp_path / "adapter" / HEAD).unlink()
    assert load_checkpoint(tmp_path / "adapter").model.config.head.labels == LABELS


def test_bert_without_its_pooler_takes_that_of_the_base(tmp_path, make_reference):
    reference = make_reference("bert-bare")
    write_ours(reference, tmp_path, "text")
    tensors = load_file(tmp_path / WEIGHTS)
    pooler = [name for name in tensors if "pooler" in name]
    assert len(pooler) == 2
    save_file({name: each for name, each in tensors.items() if name not in pooler}, tmp_path / WEIGHTS)
    found = load_checkpoint(tmp_path).model.transform.weight
    assert torch.equal(found, reference.model.pooler.dense.weight)
    save_checkpoint(tmp_path / "poorer", load_checkpoint(reference.folder))
    config = json.loads((tmp_path / CONFIG).read_text())
    config["base_model_name_or_path"] = str(tmp_path / "poorer")
    (tmp_path / CONFIG).write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="2 missing: base_model.model.bert.pooler.dense.bias, base"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("drop", "add", "says"),
    [
        ("score.weight", None, "1 missing: base_model.model.score.weight"),
        (None, "lm_head.weight", "1 unknown: base_model.model.lm_head.weight"),
    ],
)
def test_refusals(tmp_path, base, drop, add, says):
    write_ours(base("llama"), tmp_path, "text")
    tensors = {
        name: each for name, each in load_file(tmp_path / WEIGHTS).items() if not drop or drop not in name
    }
    if add:
        tensors[f"base_model.model.{add}"] = torch.zeros(3, 3)
    save_file(tensors, tmp_path / WEIGHTS)
    with pytest.raises(CheckpointError, match=says):
        load_checkpoint(tmp_path)


def test_a_deliberate_swap_is_seen(tmp_path, base):
    checkpoint = write_ours(base("llama"), tmp_path, "text")
    tensors = load_file(tmp_path / WEIGHTS)
    name = "base_model.model.score.weight"
    save_file({**tensors, name: tensors[name].roll(1, 0)}, tmp_path / WEIGHTS)
    ids = torch.randint(5, 60, (3, 11), generator=seeded())
    assert (load_checkpoint(tmp_path).model(ids) - checkpoint.model(ids)).abs().max() > 1e-3


def test_targets_are_named_as_on_the_bare_model(base):
    plain = load_checkpoint(base("llama").folder)
    alone = choose_layers(FAMILIES["llama"], plain.model, ["query"])
    headed = put_head(plain, head_for(FAMILIES["llama"], "tokens", LABELS), seeded()).model
    under = choose_layers(FAMILIES["llama"], headed, ["query"])
    assert under == {theirs: tuple(f"body.{name}" for name in ours) for theirs, ours in alone.items()}
    everything = choose_layers(FAMILIES["llama"], headed, ["all-linear"])
    assert not any(name in ("output", "transform") for ours in everything.values() for name in ours)
