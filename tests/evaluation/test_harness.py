"""A checkpoint under lm-evaluation-harness: against a stub of its base class, and where it is installed for real."""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
from types import ModuleType, SimpleNamespace

import pytest
from evaluation_samples import CHINESE, ENGLISH, make_model

from langmill.checkpoint import Checkpoint, save_checkpoint
from langmill.evaluation.language import logprobs
from langmill.generation.generate import generate
from langmill.generation.settings import SamplingSettings
from langmill.tokens import train_tokenizer

INSTALLED = importlib.util.find_spec("lm_eval") is not None


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a checkpoint that reads 48 tokens."""
    tokenizer = train_tokenizer([ENGLISH * 3 + CHINESE * 3], kind="bpe", vocabulary=300)
    tokenizer.chat_template = "{% for m in messages %}<{{ m.content }}>{% endfor %}"
    place = tmp_path_factory.mktemp("harness")
    save_checkpoint(place, Checkpoint(make_model(tokenizer.vocabulary_size, context=48), tokenizer))
    return place


def asked(*arguments):
    """Return requests as the harness makes them."""
    return [SimpleNamespace(args=each) for each in arguments]


@pytest.fixture
def model(folder, monkeypatch):
    """Return the adapter over a stub of the harness; a text is one window, for those here are short."""
    base, utilities = ModuleType("lm_eval.api.model"), ModuleType("lm_eval.utils")
    base.LM = type("LM", (), {})
    utilities.get_rolling_token_windows = lambda ids, start, limit, context_len: [([start, *ids[:-1]], ids)]
    utilities.make_disjoint_window = lambda pair: (pair[0][: len(pair[0]) - len(pair[1]) + 1], pair[1])
    for name in ("lm_eval", "lm_eval.api"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, "lm_eval.api.model", base)
    monkeypatch.setitem(sys.modules, "lm_eval.utils", utilities)
    monkeypatch.delitem(sys.modules, "langmill.evaluation.harness", raising=False)
    yield importlib.import_module("langmill.evaluation.harness").LangmillLM(
        str(folder), device="cpu", batch_size=1
    )
    sys.modules.pop("langmill.evaluation.harness")


def test_log_likelihoods(model):
    text = "It was the worst of times"
    start = len(model.words.encode("It was"))
    each = logprobs(model.checkpoint.model, model.words, text)
    whole, later = model.loglikelihood(asked(("", text), ("It was", " the worst of times")))
    (rolled,) = model.loglikelihood_rolling(asked((text,)))
    assert whole[0] == pytest.approx(each.sum(), abs=1e-4)
    assert rolled == pytest.approx(each.sum(), abs=1e-4)
    assert later[1] in (True, False)
    assert whole[0] < later[0] < 0
    assert start < len(each)


def test_generation_stops_where_the_task_says(model):
    contexts = ["It was", "满纸", "It was the best of times, " * 9]
    plain = {"until": [], "max_gen_toks": 6}
    texts = model.generate_until(asked(*((context, plain) for context in contexts)))
    settings = SamplingSettings(temperature=0, max_tokens=6)
    own, words = model.checkpoint.model, model.words
    assert texts[:2] == [each.text for each in generate(own, words, contexts[:2], settings)]
    assert texts[2] == generate(own, words, [words.encode(contexts[2])[-42:]], settings)[0].text
    stop = texts[0][1:3]
    assert model.generate_until(asked(("It was", {"until": stop, "max_new_tokens": 6}))) == [
        texts[0].split(stop)[0]
    ]


def test_what_a_task_says_of_sampling(model):
    sampling = sys.modules["langmill.evaluation.harness"].sampling
    assert sampling({"until": ["\n", ""], "temperature": 0.0, "top_p": 0.5}).stop == ("\n",)
    assert sampling({}).greedy and sampling({"do_sample": False, "temperature": 0.7}).greedy
    drawn = sampling({"temperature": 0.7, "top_p": 0.5, "max_gen_toks": 9})
    assert (drawn.temperature, drawn.top_p, drawn.max_tokens) == (0.7, 0.5, 9)


def test_chat(model):
    assert model.apply_chat_template([{"role": "user", "content": "你好"}]) == "<你好>"
    assert (model.chat_template(), model.chat_template(True)) == ("", model.words.chat_template)
    assert model.tokenizer_name == model.words.fingerprint()


TASK = """
task: toy_{kind}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
output_type: {kind}
test_split: test
doc_to_text: "{before}"
"""
KINDS = {
    "multiple_choice": ("{{text}} was the", "doc_to_choice: [worst, best of times]\ndoc_to_target: label\n"),
    "loglikelihood_rolling": ("", 'doc_to_target: "{{text}}"\nmetric_list: [{metric: bits_per_byte}]\n'),
    "generate_until": (
        "{{text}}",
        'doc_to_target: "{{label}}"\ngeneration_kwargs: {until: ["times"], max_gen_toks: 7}\n'
        "metric_list: [{metric: exact_match}]\n",
    ),
}


@pytest.mark.skipif(not INSTALLED, reason="lm_eval is not installed")
def test_the_harness_finds_what_it_finds_with_its_own_model(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    from lm_eval.evaluator import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    from langmill.evaluation.harness import LangmillLM

    data = tmp_path / "rows.jsonl"
    texts = (ENGLISH, "It", CHINESE * 4, ENGLISH * 5)
    data.write_text("".join(json.dumps({"text": text, "label": "worst"}) + "\n" for text in texts))
    for kind, (before, rest) in KINDS.items():
        task = TASK.format(kind=kind, data=data, before=before) + rest
        (tmp_path / f"{kind}.yaml").write_text(task, encoding="utf-8")
    own = HFLM(pretrained=str(folder), device="cpu", dtype="float32", max_length=48)
    answers = []
    for lm in (own, LangmillLM(str(folder), device="cpu")):
        found = simple_evaluate(
            model=lm,
            tasks=[f"toy_{kind}" for kind in KINDS],
            task_manager=TaskManager(include_path=str(tmp_path)),
            bootstrap_iters=0,
        )
        samples = found["samples"].items()
        answers.append({name: [row["resps"] for row in rows] for name, rows in samples})
    theirs, ours = answers
    assert ours["toy_generate_until"] == theirs["toy_generate_until"]
    for name in ("toy_multiple_choice", "toy_loglikelihood_rolling"):
        assert leaves(ours[name]) == pytest.approx(leaves(theirs[name]), abs=1e-3)


def leaves(tree) -> list[float]:
    """Return the numbers of nested lists, in order."""
    return (
        [number for part in tree for number in leaves(part)]
        if isinstance(tree, (list, tuple))
        else [float(tree)]
    )
