"""The tasks `mlm` and `denoise`, from text to a checkpoint that Transformers opens."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from small_runs import write_text

import langmill
import langmill.loaded
from langmill.batches.batch import TokenBatch
from langmill.core.errors import ConfigError, DataError
from langmill.models.transformer import Transformer
from langmill.objectives.masked import masked_token
from langmill.tasks import find_task
from langmill.tasks.denoise import corruption_for, sentinel
from langmill.tasks.mlm import pseudo_logprobs
from langmill.tokens.tokenizer import SpecialTokens
from langmill.tokens.train import train_tokenizer
from langmill.training.settings import SpanSettings

SIZES = {"layers": 2, "width": 32, "context": 24}
TINY = {
    "device": "cpu",
    "batch": 4,
    "tensorboard": False,
    "precision": "float32",
    "tokenizer": "char",
    "model": SIZES,
}


def train(task: str, tmp_path: Path, name: str = "run", **settings):
    text = tmp_path / "text.txt"
    if not text.exists():
        write_text(text)
    merged = {**TINY, **settings, "model": {**SIZES, **settings.get("model", {})}}
    return langmill.train(task, str(text), output=str(tmp_path / name), **merged)


CASES = [("mlm", "eurobert"), ("mlm", "bert"), ("denoise", "t5"), ("denoise", "bart")]
RECURRENT = [(task, family) for task in ("lm", "mlm", "denoise") for family in ("lstm", "gru")]


@pytest.mark.parametrize(("task", "family"), CASES)
def test_what_is_trained_opens_in_transformers(tmp_path, task, family):
    transformers = pytest.importorskip("transformers")
    result = train(task, tmp_path, steps=3, model={"family": family})
    assert set(result.metrics) == {"loss", "accuracy", "accuracy_of_commonest_token"}
    assert any("predict" in command for command in result.next_commands)
    ours = langmill.load(result.folder)
    kind = getattr(transformers, find_task(task).use.transformers_class)
    theirs, report = kind.from_pretrained(result.folder, output_loading_info=True)
    assert not (report["missing_keys"] or report["unexpected_keys"])
    ids = torch.randint(5, 40, (2, 10), generator=torch.Generator().manual_seed(0))
    target = None if task == "mlm" else ids.flip(1)
    found = ours.logits(ids, target)
    given = {} if target is None else {"decoder_input_ids": target}
    with torch.no_grad():
        wanted = theirs.eval()(input_ids=ids, **given).logits
    if target is not None:
        assert theirs.generation_config.decoder_start_token_id is not None
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)
    card = Path(result.folder, "README.md").read_text(encoding="utf-8")
    assert f"{find_task(task).use.transformers_class}.from_pretrained" in card


@pytest.mark.parametrize(("task", "family"), [*CASES, *RECURRENT])
def test_resumed_is_uninterrupted(tmp_path, task, family):
    model = {"family": family, "dropout": 0.1, "attention": "bahdanau" if family == "gru" else "luong"}
    train(task, tmp_path, "whole", steps=8, save_every=4, model=model)
    train(task, tmp_path, "parts", steps=8, save_every=4, model=model)
    for folder in (tmp_path / "parts" / "state").iterdir():
        if folder.name.endswith("8"):
            for file in folder.iterdir():
                file.unlink()
            folder.rmdir()
    langmill.train(task, output=str(tmp_path / "parts"), resume=True)
    whole, parts = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "parts"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


@pytest.mark.parametrize(("task", "family"), [*CASES, *RECURRENT])
def test_accumulated_is_full_batch(tmp_path, task, family):
    found = [
        train(task, tmp_path, f"{micro}", steps=4, micro_batch=micro, model={"family": family}).metrics[
            "loss"
        ]
        for micro in (1, 4)
    ]
    assert found[0] == pytest.approx(found[1], abs=2e-4)


@pytest.mark.parametrize(
    ("task", "family"), [("mlm", "auto"), ("denoise", "auto"), ("mlm", "gru"), ("denoise", "lstm")]
)
def test_it_learns(tmp_path, task, family):
    """A text that says one thing over and over: what is hidden follows from what stands around it."""
    (tmp_path / "text.txt").write_text("the mill turns raw text into models 磨坊\n" * 200, encoding="utf-8")
    steps, batch = (200, 4) if task == "mlm" else (400, 16)
    result = train(
        task, tmp_path, steps=steps, batch=batch, model={"family": family, "context": 48, "width": 64}
    )
    # A recurrent pair needs more steps than a test has; the commonest token alone finds 0.14.
    enough = 0.5 if (task, family) == ("denoise", "lstm") else 0.8
    assert result.metrics["accuracy"] > enough, result.metrics


@pytest.mark.parametrize("family", ["eurobert", "lstm"])
def test_filling_in(tmp_path, family):
    result = train("mlm", tmp_path, steps=60, mask={"unit": "token"}, model={"family": family})
    model = langmill.load(result.folder)
    filled = model.predict("the m[MASK]ll turns ra[MASK] text")
    assert len(filled.masks) == 2
    for candidates in filled.masks:
        assert len(candidates) == 5
        assert [each.probability for each in candidates] == sorted(
            (each.probability for each in candidates), reverse=True
        )
    assert filled.text.startswith("the m") and "MASK" not in filled.text
    assert model.predict(["a [MASK]", "b [MASK]"])[0].text.startswith("a ")
    with pytest.raises(DataError, match=r"no \[MASK\] in 'plain'"):
        model.predict("plain")
    with pytest.raises(DataError, match="tokens; the model reads 24"):
        model.predict("[MASK]" + "a" * 40)
    found = pseudo_logprobs(model.checkpoint, "the mill")
    assert found.shape == (8,) and (found < 0).all()


@pytest.mark.parametrize("attention", ["luong", "bahdanau"])
def test_a_recurrent_pair_answers(tmp_path, attention):
    result = train("denoise", tmp_path, steps=3, model={"family": "gru", "attention": attention})
    model = langmill.load(result.folder)
    assert model.model.config.attention == attention
    card = Path(result.folder, "README.md").read_text(encoding="utf-8")
    assert "(2 layers, width 32, context 24, vocabulary" in card and "opens in langmill alone" in card
    text = "the mill turns<extra_id_0>text<extra_id_1> models"
    assert model.predict([text, text])[1].tokens == model.predict(text).tokens
    found = model.generate(text, max_tokens=8, beams=3, alternatives=2)
    assert len(found.alternatives) == 1 and found.score >= found.alternatives[0].score
    longer = langmill.train(
        "denoise",
        str(tmp_path / "text.txt"),
        output=str(tmp_path / "more"),
        from_checkpoint=result.folder,
        **{"steps": 2, "batch": 4, "device": "cpu", "tensorboard": False},
    )
    assert langmill.load(longer.folder).model.config == model.model.config


def test_a_decoder_is_no_start_for_mlm(tmp_path):
    decoder = train("lm", tmp_path, "decoder", steps=2)
    with pytest.raises(ConfigError, match="mlm goes on from an encoder"):
        train("mlm", tmp_path, "encoder", steps=2, from_checkpoint=decoder.folder)
    encoder = train("mlm", tmp_path, "encoder", steps=2)
    with pytest.raises(ConfigError, match="lm goes on from a decoder"):
        train("lm", tmp_path, "other", steps=2, from_checkpoint=encoder.folder)
    with pytest.raises(
        ConfigError, match="is an encoder, which fills in masked tokens, and generates no text"
    ):
        langmill.load(encoder.folder).generate("a")


@pytest.mark.parametrize(("task", "lacking"), [("mlm", "mask"), ("denoise", "mask")])
def test_a_tokenizer_without_what_the_task_needs(tmp_path, task, lacking):
    train_tokenizer(["some text"], kind="char").save(tmp_path / "tokenizer")
    with pytest.raises(ConfigError, match=f"has no {lacking} token, which {task} needs"):
        train(task, tmp_path, steps=2, tokenizer=str(tmp_path / "tokenizer"))


def test_families_are_named(tmp_path):
    with pytest.raises(
        ConfigError,
        match="--model brt: mlm trains eurobert, bert, lstm, gru from scratch; did you mean bert",
    ):
        train("mlm", tmp_path, steps=2, model={"family": "brt"})
    with pytest.raises(
        ConfigError,
        match="--model lsmt: denoise trains t5, bart, lstm, gru from scratch; did you mean lstm",
    ):
        train("denoise", tmp_path, steps=2, model={"family": "lsmt"})


def test_pairs_are_trained_and_filled_in(tmp_path):
    """Both segments reach the model in training and in use, as Transformers has them."""
    transformers = pytest.importorskip("transformers")
    result = train("mlm", tmp_path, steps=3, mask={"pairs": True}, model={"context": 32})
    model = langmill.load(result.folder)
    assert model.checkpoint.family == "bert"
    assert "token_type_ids" in transformers.AutoTokenizer.from_pretrained(result.folder).model_input_names
    pair = model.tokenizer.encode_pair("the m", "ill")
    ids, segments = torch.tensor([pair.ids]), torch.tensor([pair.segments])
    assert segments.sum() == 4
    theirs = transformers.AutoModelForMaskedLM.from_pretrained(result.folder).eval()
    with torch.no_grad():
        wanted = theirs(input_ids=ids, token_type_ids=segments).logits
        found = model.model(ids, segments=segments)
        alone = model.model(ids)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)
    assert (alone - found).abs().max() > 1e-4
    batch = TokenBatch(ids, torch.where(segments == 0, ids, -100), None, segments)
    masked_token(model.model, batch)[0].backward()
    assert (model.model.encoder.segments.weight.grad.abs().sum(1) > 0).all(), "both kinds are learned"
    (filled,) = model.predict([("the m[MASK]ll", "tur[MASK]s")])
    assert len(filled.masks) == 2 and filled.text.startswith("the m") and filled.pair.startswith("tur")
    assert "MASK" not in filled.text + filled.pair
    best = wanted_fill(model, "the m[MASK]ll", "tur[MASK]s")
    assert [candidates[0].id for candidates in filled.masks] == best
    with pytest.raises(DataError, match=r"no \[MASK\] in 'a b'"):
        model.predict([("a", "b")])


def wanted_fill(model, first: str, second: str) -> list[int]:
    """Return the best token in each hole of a pair, by the model's own scores."""
    own = model.tokenizer.specials.mask
    pair = model.tokenizer.encode_pair(first.replace("[MASK]", own), second.replace("[MASK]", own))
    ids = torch.tensor([pair.ids])
    with torch.no_grad():
        best = model.model(ids, segments=torch.tensor([pair.segments]))[0].argmax(-1)
    return best[ids[0] == model.tokenizer.mask_id].tolist()


def test_pairs_need_segments(tmp_path):
    with pytest.raises(ConfigError, match="segment embeddings, which eurobert has not; use --model bert"):
        train("mlm", tmp_path, steps=2, mask={"pairs": True}, model={"family": "eurobert"})
    plain = train("mlm", tmp_path, "plain", steps=2)
    with pytest.raises(ConfigError, match="segment embeddings, which this checkpoint has not"):
        train("mlm", tmp_path, steps=2, mask={"pairs": True}, from_checkpoint=plain.folder)
    bert = train("mlm", tmp_path, "bert", steps=2, model={"family": "bert"})
    with pytest.raises(ConfigError, match="tokenizer has no cls token"):
        train("mlm", tmp_path, steps=2, mask={"pairs": True}, from_checkpoint=bert.folder)
    decoder = train("lm", tmp_path, "decoder", steps=2)
    with pytest.raises(DataError, match="one text at a time"):
        langmill.load(decoder.folder).predict([("a", "b")])


def test_pairs_go_on_from_a_checkpoint(tmp_path):
    settings = {"steps": 2, "mask": {"pairs": True}}
    first = train("mlm", tmp_path, "first", **settings)
    whole = {**TINY, **settings, "tokenizer": "bpe", "model": {}, "from_checkpoint": first.folder}
    again = langmill.train("mlm", str(tmp_path / "text.txt"), output=str(tmp_path / "again"), **whole)
    assert again.steps == 2


@pytest.mark.parametrize(
    ("extra", "usual"), [((sentinel(0), sentinel(1)), (0.5, 16.0)), (("<|mask|>",), (0.3, 3.0))]
)
def test_what_is_taken_out_can_be_chosen(extra, usual):
    tokenizer = train_tokenizer(
        ["some text to learn from"],
        kind="bpe",
        vocabulary=300,
        specials=SpecialTokens(eos="</s>", pad="<pad>", mask="<|mask|>"),
        extra_specials=[name for name in extra if name != "<|mask|>"],
    )
    for spans, wanted in ((SpanSettings(), usual), (SpanSettings(share=0.2, length=8), (0.2, 8.0))):
        corruption = corruption_for(tokenizer, spans)
        assert (corruption.share, corruption.span) == wanted


@pytest.mark.parametrize(
    ("task", "settings", "option"),
    [
        ("lm", {"mask": {"pairs": True}}, "--mask.pairs has no effect on lm"),
        ("denoise", {"mask": {"share": 0.3}}, "--mask.share has no effect on denoise"),
        ("mlm", {"spans": {"length": 4}}, "--spans.length has no effect on mlm"),
    ],
)
def test_settings_of_another_task_are_refused(tmp_path, task, settings, option):
    with pytest.raises(ConfigError, match=option):
        train(task, tmp_path, steps=2, **settings)


def test_an_encoder_that_gives_states_fills_in_nothing(tmp_path):
    model = langmill.load(train("mlm", tmp_path, steps=2).folder)
    bare = Transformer(replace(model.model.config, has_output=False))
    with pytest.raises(ConfigError, match="gives states .* so it fills in no \\[MASK\\]"):
        find_task("mlm").predict(replace(model.checkpoint, model=bare), ["a [MASK]"])
