"""Models with heads: scores, labels and files equal to those of Transformers, in both directions."""

from __future__ import annotations

import copy
import dataclasses
import json

import pytest
import torch

from langmill.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from langmill.models.heads import Headed
from tests.checkpoint.conftest import BERT_SIZES, LLAMA_SIZES, VOCABULARY, perturb
from tests.checkpoint.test_parity import greatest_difference

TOLERANCE = 1e-5
LABELS = ("好 评", "😀 fine", "spam")
GPT2_SIZES = {"vocab_size": VOCABULARY, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}
DECODER = {**LLAMA_SIZES, "num_hidden_layers": 2, "sliding_window": None}
EUROBERT_SIZES = {**BERT_SIZES, "pad_token_id": 0, "mask_token_id": 4, "bos_token_id": 1, "eos_token_id": 2}
FAMILY_SIZES = {
    "Bert": {**BERT_SIZES, "pad_token_id": 0},
    "Roberta": {**BERT_SIZES, "pad_token_id": 1},
    "EuroBert": EUROBERT_SIZES,
    "GPT2": {**GPT2_SIZES, "pad_token_id": 0},
    "Llama": {**LLAMA_SIZES, "num_hidden_layers": 2},
    "Mistral": DECODER,
    "Qwen2": DECODER,
    "Qwen3": {**DECODER, "head_dim": 12},
}
KINDS = {
    "text": "SequenceClassification",
    "tokens": "TokenClassification",
    "span": "QuestionAnswering",
}
CASES = {
    f"{name}-{kind}": (f"{name}For{KINDS[kind]}", sizes)
    for name, sizes in FAMILY_SIZES.items()
    for kind in KINDS
    if (name, kind) != ("EuroBert", "span")
}
for pooling in ("bos", "mean"):
    CASES[f"EuroBert-{pooling}"] = (
        CASES["EuroBert-text"][0],
        {**EUROBERT_SIZES, "classifier_pooling": pooling},
    )
CASES["Bert-many"] = CASES["Bert-text"][0], {**BERT_SIZES, "problem_type": "multi_label_classification"}


@pytest.fixture(scope="module")
def make(tmp_path_factory):
    """Return a function from a case's name to a Transformers model and the folder it was saved to."""
    transformers = pytest.importorskip("transformers")
    made = {}

    def build(case):
        if case not in made:
            name, settings = CASES[case]
            torch.manual_seed(0)
            labels = {"id2label": dict(enumerate(LABELS)), "label2id": {b: a for a, b in enumerate(LABELS)}}
            model_class = getattr(transformers, name)
            model = model_class(
                model_class.config_class(**settings, **({} if "span" in case else labels))
            ).eval()
            perturb(model)
            folder = tmp_path_factory.mktemp(case)
            model.save_pretrained(folder)
            made[case] = model, folder
        return made[case]

    return build


def head_changed(model: Headed, **settings) -> Headed:
    """Return a copy of a model that reads or scores in another way."""
    other = copy.deepcopy(model)
    head = dataclasses.replace(model.config.head, **settings)
    other.config = dataclasses.replace(model.config, head=head)
    return other


def padded(model) -> tuple[torch.Tensor, torch.Tensor]:
    """Return ids (3, 11) with padding on the right, and where they are valid."""
    ids = torch.randint(5, VOCABULARY, (3, 11), generator=torch.Generator().manual_seed(5))
    lengths = torch.tensor([11, 7, 3])
    valid = torch.arange(11) < lengths[:, None]
    return ids.masked_fill(~valid, model.config.pad_token_id), valid


@torch.no_grad()
def their_scores(model, ids, valid) -> torch.Tensor:
    found = model(input_ids=ids, attention_mask=valid.long())
    if hasattr(found, "start_logits"):
        return torch.stack([found.start_logits, found.end_logits], -1)
    return found.logits


def meant(scores: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """Return the scores of texts, or of tokens that are no padding."""
    return scores if scores.ndim == 2 else scores[valid]


@torch.no_grad()
def difference(ours, theirs) -> float:
    ids, valid = padded(theirs)
    found, expected = ours(ids, valid=valid), their_scores(theirs, ids, valid)
    assert found.shape == expected.shape
    return greatest_difference(meant(found, valid), meant(expected, valid))


@pytest.mark.parametrize("case", CASES)
def test_scores_and_labels_of_what_they_saved(make, case):
    theirs, folder = make(case)
    ours = load_checkpoint(folder).model
    assert isinstance(ours, Headed)
    assert difference(ours, theirs) <= TOLERANCE
    assert ours.config.head.labels == (() if "span" in case else LABELS)
    assert ours.config.head.multi_label == (case == "Bert-many")


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("fresh", [False, True], ids=["config kept", "config written anew"])
def test_opened_by_their_auto_classes(tmp_path, make, case, fresh):
    import transformers

    theirs, folder = make(case)
    loaded = load_checkpoint(folder)
    config = {} if fresh else loaded.config
    save_checkpoint(tmp_path, Checkpoint(loaded.model, family=loaded.family, config=config))
    if fresh:  # without a tokenizer nobody knows what pads a text
        written = json.loads((tmp_path / "config.json").read_text())
        written["pad_token_id"] = theirs.config.pad_token_id
        (tmp_path / "config.json").write_text(json.dumps(written))
    kind = loaded.model.config.head.kind
    auto = getattr(transformers, f"AutoModelFor{KINDS[kind]}")
    again, report = auto.from_pretrained(tmp_path, output_loading_info=True)
    assert not (report["missing_keys"] or report["unexpected_keys"] or report["mismatched_keys"])
    ids, valid = padded(theirs)
    assert torch.equal(their_scores(again.eval(), ids, valid), their_scores(theirs, ids, valid))
    assert again.config.id2label == theirs.config.id2label
    assert again.config.label2id == theirs.config.label2id
    assert difference(loaded.model, again) <= TOLERANCE


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_parity_fails_on_another_head(make, case):
    theirs, folder = make(case)
    ours = load_checkpoint(folder).model
    head = ours.config.head
    wrong = {"rows turned": copy.deepcopy(ours)}
    wrong["rows turned"].output.weight.copy_(ours.output.weight.roll(1, 0))
    if ours.output.bias is not None:
        wrong["biases turned"] = copy.deepcopy(ours)
        wrong["biases turned"].output.bias.copy_(ours.output.bias.roll(1, 0))
    if head.kind == "text":
        # With a layer between, the mean before it and after it differ; without, they are one.
        for pooling in {"first", "mean", "last", *(["late"] if head.transform else [])} - {head.pooling}:
            wrong[pooling] = head_changed(ours, pooling=pooling)
    if head.transform:
        wrong["activation"] = head_changed(ours, transform="relu")
        wrong["transform turned"] = copy.deepcopy(ours)
        wrong["transform turned"].transform.weight.copy_(ours.transform.weight.T)
    for name, model in wrong.items():
        assert difference(model, theirs) > 1e-3, name


@pytest.mark.parametrize("case", ["Bert-text", "Bert-tokens", "Bert-span"])
@torch.no_grad()
def test_segments(make, case):
    theirs, folder = make(case)
    ids, valid = padded(theirs)
    segments = (torch.arange(11) > 2).long().expand(3, 11)
    ours = load_checkpoint(folder).model
    found = theirs(input_ids=ids, attention_mask=valid.long(), token_type_ids=segments)
    logits = found.logits if "span" not in case else torch.stack([found.start_logits, found.end_logits], -1)
    scores = ours(ids, valid=valid, segments=segments)
    assert greatest_difference(meant(scores, valid), meant(logits, valid)) <= TOLERANCE
    assert difference(ours, theirs) <= TOLERANCE < greatest_difference(scores, ours(ids, valid=valid))
