"""A head put on any checkpoint: what is shared, what is kept, what begins anew, what is refused."""

from __future__ import annotations

import json

import pytest
import torch

from langmill.checkpoint import Checkpoint, load_checkpoint, put_head, save_checkpoint
from langmill.checkpoint.export import export_checkpoint
from langmill.checkpoint.heads import left_behind
from langmill.checkpoint.sentences import SentencePooling
from langmill.core.errors import CheckpointError, ConfigError
from langmill.models.config import bert_encoder, default_encoder_decoder
from langmill.models.families import FAMILIES, head_for
from langmill.models.heads import HeadConfig, Headed
from langmill.models.initialise import allocate, initialise, initialise_recurrent
from langmill.models.recurrent import Recurrent, RecurrentConfig
from langmill.models.transformer import Transformer
from tests.checkpoint.conftest import perturb
from tests.checkpoint.folder_samples import new_model
from tests.checkpoint.test_parity import token_ids

LABELS = ("a", "b", "c")


def seeded(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def new_bert(*, seed: int = 0) -> Transformer:
    model = Transformer(bert_encoder(12, layers=2, width=16, heads=2, context=32))
    initialise(model, seeded(seed))
    perturb(model)
    return model.eval()


def new_lstm(role: str = "encoder") -> Recurrent:
    model = Recurrent(RecurrentConfig(vocabulary=12, role=role, layers=2, width=16))
    initialise_recurrent(model, seeded())
    return model.eval()


def headed(model, kind="text", labels=LABELS, **settings) -> Checkpoint:
    plain = Checkpoint(model)
    head = head_for(FAMILIES[plain.family], kind, () if kind == "span" else labels, **settings)
    return put_head(plain, head, seeded())


@pytest.mark.parametrize("make", [new_model, new_bert, new_lstm, lambda: new_lstm("decoder")])
@pytest.mark.parametrize("kind", ["text", "tokens", "span"])
def test_shares_the_body_and_survives_a_folder(tmp_path, make, kind):
    model = make()
    body = {name: weight for name, weight in model.named_parameters() if "output" not in name.split(".")[0]}
    checkpoint = headed(model, kind, dropout=0.25)
    own = dict(checkpoint.model.body.named_parameters())
    assert all(weight is body[name] for name, weight in own.items()) and own
    assert not checkpoint.model.training
    save_checkpoint(tmp_path, checkpoint)
    again = load_checkpoint(tmp_path)
    assert again.family == checkpoint.family and again.model.config == checkpoint.model.config
    ids = torch.randint(12, (2, 9), generator=seeded())
    valid = torch.arange(9) < torch.tensor([[9], [4]])
    states = again.model.encode(ids, valid=valid)
    score = again.model.score
    assert torch.equal(score(states, valid=valid), checkpoint.model(ids, valid=valid))
    spoilt = states.masked_fill(~valid[..., None], torch.nan)
    found = score(spoilt, valid=valid)
    assert torch.equal(found if kind == "text" else found[valid], (
        score(states, valid=valid) if kind == "text" else score(states, valid=valid)[valid]
    ))  # fmt: skip
    assert not (tmp_path / "generation_config.json").exists()


@pytest.mark.parametrize("kind", ["text", "tokens", "span"])
@torch.no_grad()
def test_padding_changes_nothing(kind):
    model = headed(new_lstm(), kind).model
    ids = torch.randint(12, (1, 5), generator=seeded())
    longer = torch.cat([ids, torch.full((1, 4), 3)], 1)
    padded = model(longer, valid=torch.arange(9)[None] < 5)
    alone = model(ids)
    assert torch.allclose(padded if kind == "text" else padded[:, :5], alone, atol=1e-6)


def test_the_same_labels_in_another_order_are_kept():
    first = headed(new_bert())
    perturb(first.model, seed=4)
    turned = head_for(FAMILIES["bert"], "text", ("c", "a", "b"), dropout=0.5)
    second = put_head(first, turned, seeded())
    ids = torch.randint(12, (2, 9), generator=seeded())
    assert torch.equal(second.model(ids), first.model(ids)[:, [2, 0, 1]])


def test_other_labels_keep_the_transform_alone():
    first = headed(new_bert())
    perturb(first.model, seed=4)
    second = put_head(first, head_for(FAMILIES["bert"], "text", ("x", "y", "z")), seeded(9)).model
    assert torch.equal(second.transform.weight, first.model.transform.weight)
    assert not torch.equal(second.output.weight, first.model.output.weight)
    tokens = put_head(first, head_for(FAMILIES["bert"], "tokens", LABELS), seeded(9)).model
    assert not torch.equal(tokens.output.weight, first.model.output.weight)


def test_several_labels_at_once_are_not_one_label():
    first = headed(new_bert())
    many = put_head(first, head_for(FAMILIES["bert"], "text", LABELS, multi_label=True), seeded(9)).model
    assert not torch.equal(many.output.weight, first.model.output.weight)


def test_begins_with_the_folders_pooler(make_reference, tmp_path):
    reference = make_reference("bert-bare")
    pooler = reference.model.pooler.dense
    head = head_for(FAMILIES["bert"], "text", LABELS)
    found = put_head(load_checkpoint(reference.folder), head, seeded()).model
    assert torch.equal(found.transform.weight, pooler.weight)
    assert torch.equal(found.transform.bias, pooler.bias)
    export_checkpoint(tmp_path, load_checkpoint(reference.folder))  # which lacks it
    fresh = put_head(load_checkpoint(tmp_path), head, seeded()).model
    assert not torch.equal(fresh.transform.weight, pooler.weight) and not fresh.transform.bias.any()


def test_what_a_copy_lacks_is_said_when_it_is_made(make_reference, tmp_path, capsys, caplog):
    reference = make_reference("bert-bare")
    opened = load_checkpoint(reference.folder)
    assert not caplog.text and not capsys.readouterr().err
    pooler = {"pooler.dense.weight", "pooler.dense.bias"}
    assert set(left_behind(opened)) == pooler
    export_checkpoint(tmp_path / "copy", opened)
    assert f"lacks 2 weights of {reference.folder}, for which this model has no use: pooler.dense.bias" in (
        capsys.readouterr().err
    )
    assert left_behind(load_checkpoint(tmp_path / "copy")) == []
    for kind, left in (("text", set()), ("tokens", pooler)):
        head = head_for(FAMILIES["bert"], kind, LABELS)
        assert set(left_behind(put_head(load_checkpoint(reference.folder), head, seeded()))) == left


def test_seeds_decide_how_a_head_begins():
    one, two = (
        put_head(Checkpoint(new_bert()), head_for(FAMILIES["bert"], "text", LABELS), seeded(s))
        for s in (1, 2)
    )
    assert torch.equal(headed(new_bert()).model.output.weight, one.model.output.weight)
    assert not torch.equal(one.model.output.weight, two.model.output.weight)


def test_a_head_of_another_family_is_refused():
    with pytest.raises(CheckpointError, match="head.pooling would become 'last' instead of 'first'"):
        put_head(Checkpoint(new_model()), HeadConfig(kind="text", labels=LABELS), seeded())
    with pytest.raises(
        CheckpointError, match="pooling 'mean' is not what a bert model's head has; known: first"
    ):
        head_for(FAMILIES["bert"], "text", LABELS, pooling="mean")


def test_encoder_decoders_have_none():
    pair = allocate(default_encoder_decoder(12, layers=1, width=16, heads=2))
    for model in (pair, new_lstm("pair")):
        with pytest.raises(ConfigError, match="an encoder-decoder .* has none"):
            put_head(Checkpoint(model), HeadConfig(kind="text", labels=LABELS), seeded())
    with pytest.raises(CheckpointError, match="a t5 model has no head of kind 'text' here; take an encoder"):
        head_for(FAMILIES["t5"], "text", LABELS)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "words"}, "a head's kind is one of text, tokens, span, not 'words'"),
        ({"kind": "text", "labels": ()}, "a head for text needs at least 1 label"),
        ({"kind": "span", "labels": ("a",)}, "a head for spans has no labels"),
        ({"kind": "text", "labels": ("a", "b", "a")}, "labels must differ, but there are several 'a'"),
        ({"kind": "tokens", "labels": LABELS, "multi_label": True}, "several labels at once are for texts"),
        ({"kind": "text", "labels": LABELS, "pooling": "max"}, "a head's pooling is one of first"),
        ({"kind": "text", "labels": LABELS, "transform": "sin"}, "a head's transform is one of"),
        ({"kind": "text", "labels": LABELS, "dropout": 1.0}, "a head's dropout: 1.0 is not allowed"),
    ],
)
def test_bad_heads(settings, message):
    with pytest.raises(ConfigError, match=message):
        HeadConfig(**settings)


SPOILT = [
    ({"id2label": {"0": "a", "2": "b", "3": "c"}}, r"id2label has the ids 0, 2, 3; 3 labels need the ids 0 to 2"),
    ({"id2label": {"0": "a", "00": "b", "1": "c"}}, r"has the ids 0, 0, 1"),
    ({"id2label": {"0": "a", "1": "a", "2": "c"}}, "labels must differ, but there are several 'a'"),
    ({"id2label": {"zero": "a"}}, r"id2label has \('zero', 'a'\), which is not an id and its label"),
    ({"id2label": {"0": 7}}, r"id2label has \('0', 7\)"),
    ({"id2label": ["a"]}, "id2label .* must be an object"),
    ({"id2label": None, "label2id": {"a": 0, "b": 2}}, "label2id has the ids 0, 2"),
    ({"id2label": None, "label2id": None, "num_labels": 0}, "num_labels 0 is not allowed"),
    ({"id2label": {"0": "a", "1": "b"}}, r"classifier.weight is \(3, 16\), not \(2, 16\)"),
    ({"problem_type": "regression"}, "problem_type 'regression' is not supported; known: single_label"),
    ({"problem_type": ["a"]}, r"problem_type \['a'\] is not supported"),
    ({"classifier_dropout": "much"}, "classifier_dropout 'much' is not allowed"),
]  # fmt: skip


@pytest.fixture
def saved(tmp_path):
    """A saved BERT for three labels, and a function that changes keys of its config.json."""
    save_checkpoint(tmp_path, headed(new_bert()))

    def change(keys):
        theirs = json.loads((tmp_path / "config.json").read_text())
        (tmp_path / "config.json").write_text(json.dumps({**theirs, **keys}))
        return tmp_path

    return change


@pytest.mark.parametrize(("keys", "message"), SPOILT)
def test_spoilt_folders(saved, keys, message):
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(saved(keys))


def test_unknown_pooling_of_eurobert(tmp_path, make_reference):
    checkpoint = load_checkpoint(make_reference("eurobert").folder)
    head = head_for(FAMILIES["eurobert"], "text", LABELS, pooling="mean")
    save_checkpoint(tmp_path, put_head(checkpoint, head, seeded()))
    theirs = json.loads((tmp_path / "config.json").read_text())
    assert theirs["classifier_pooling"] == "mean"
    (tmp_path / "config.json").write_text(json.dumps({**theirs, "classifier_pooling": "max"}))
    with pytest.raises(
        CheckpointError, match="classifier_pooling 'max' is not supported; known: late, mean, bos"
    ):
        load_checkpoint(tmp_path)


def test_labels_without_names_and_in_any_order(saved, caplog):
    numbered = load_checkpoint(saved({"id2label": None, "label2id": None, "num_labels": 3})).model.config.head
    assert numbered.labels == ("LABEL_0", "LABEL_1", "LABEL_2")
    turned = saved({"id2label": {"2": "c", "0": "a", "1": "b"}, "label2id": None})
    assert load_checkpoint(turned).model.config.head.labels == LABELS
    assert "label2id" not in caplog.text
    load_checkpoint(saved({"label2id": {"a": 1, "b": 0, "c": 2}}))
    assert "label2id does not say what id2label says" in caplog.text


def test_weights_that_are_missing_or_left_over(saved):
    with pytest.raises(
        CheckpointError, match="missing: cls.predictions.*; 2 unknown: classifier.bias, classifier"
    ):
        load_checkpoint(saved({"architectures": ["BertForMaskedLM"]}))
    with pytest.raises(CheckpointError, match=r"2 missing: qa_outputs.bias, qa_outputs.weight"):
        load_checkpoint(saved({"architectures": ["BertForQuestionAnswering"]}))


def test_a_language_model_goes_on_as_a_classifier_and_keeps_its_spelling(tmp_path, make_reference):
    reference = make_reference("llama-llama3")
    checkpoint = load_checkpoint(reference.folder)
    checkpoint.config["of_my_own"] = 7
    model = put_head(checkpoint, head_for(FAMILIES["llama"], "text", LABELS), seeded())
    save_checkpoint(tmp_path, model)
    theirs = json.loads((tmp_path / "config.json").read_text())
    assert theirs["of_my_own"] == 7 and theirs["architectures"] == ["LlamaForSequenceClassification"]
    assert theirs["label2id"] == {"a": 0, "b": 1, "c": 2}
    assert theirs["problem_type"] == "single_label_classification"
    again = load_checkpoint(tmp_path).model
    assert isinstance(again, Headed)
    ids = token_ids()
    assert torch.equal(again.encode(ids), load_checkpoint(reference.folder).model.decode(ids))


def test_a_decoder_without_padding_token_takes_the_end(tmp_path, make_reference):
    checkpoint = load_checkpoint(make_reference("gpt2").folder)
    save_checkpoint(tmp_path, put_head(checkpoint, head_for(FAMILIES["gpt2"], "text", LABELS), seeded()))
    assert json.loads((tmp_path / "config.json").read_text())["pad_token_id"] == 0


def test_a_model_for_sentence_vectors_that_gets_a_head_gives_no_vectors_any_more(tmp_path):
    """Such a folder would be read as one for vectors, its head left out."""
    pooled = Checkpoint(new_bert(), pooling=SentencePooling("mean", True, 32))
    head = head_for(FAMILIES["bert"], "text", LABELS)
    save_checkpoint(tmp_path, put_head(pooled, head, seeded()))
    read = load_checkpoint(tmp_path, tokenizer=False)
    assert read.pooling is None and isinstance(read.model, Headed)
    assert not (tmp_path / "modules.json").exists()
