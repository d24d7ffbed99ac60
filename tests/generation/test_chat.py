"""Answers in a conversation: `Model.chat`, the context's end, and `langmill chat` end to end."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import langmill
from langmill.checkpoint.folder import Checkpoint, save_checkpoint
from langmill.cli.main import main
from langmill.core.errors import CheckpointError, ConfigError, DataError
from langmill.generation.chat import answer, fitting
from langmill.generation.generate import generate
from langmill.generation.rules import TokenRules
from langmill.generation.settings import SamplingSettings
from langmill.tokens import SpecialTokens, train_tokenizer
from langmill.tokens.chat import render_chat

TEMPLATE = (
    "{% for m in messages %}<{{ m.role[0] }}>{{ m.content }}<end>{% endfor %}"
    "{% if add_generation_prompt %}<a>{% endif %}"
)
GREEDY = SamplingSettings(max_tokens=8, temperature=0)


@pytest.fixture
def tokenizer():
    made = train_tokenizer(
        ["abcdefgh 一二三四五\n"] * 3,
        kind="char",
        specials=SpecialTokens(eos="<|endoftext|>"),
        extra_specials=["<end>", "<u>", "<a>", "<s>"],
    )
    made.chat_template = TEMPLATE
    return made


@pytest.fixture
def model(make_model, qwen, tokenizer):
    return make_model(vocabulary=tokenizer.vocabulary_size, **qwen)


@pytest.fixture
def checkpoint(model, tokenizer, tmp_path) -> str:
    save_checkpoint(tmp_path / "run", Checkpoint(model, tokenizer))
    return str(tmp_path / "run")


def turns(*contents: str, system: str = "") -> list[dict[str, str]]:
    messages = [{"role": "system", "content": system}] if system else []
    return messages + [
        {"role": ("user", "assistant")[i % 2], "content": content} for i, content in enumerate(contents)
    ]


def test_an_answer_is_the_templates_text_continued(model, tokenizer) -> None:
    messages = turns("ab", "c", "一二", system="d")
    ids = tokenizer.encode("<s>d<end><u>ab<end><a>c<end><u>一二<end><a>")
    assert tokenizer.encode(render_chat(tokenizer, messages)) == ids
    rules = TokenRules(ends=(tokenizer.eos_id, tokenizer.backend.token_to_id("<end>")))
    (expected,) = generate(model, tokenizer, [ids], GREEDY, rules=rules)
    assert answer(model, tokenizer, messages, GREEDY) == expected
    heard: list[str] = []
    assert answer(model, tokenizer, messages, GREEDY, on_text=heard.append).text == "".join(heard)


def test_what_the_template_puts_behind_an_answer_ends_it(model, tokenizer) -> None:
    end = tokenizer.backend.token_to_id("<end>")
    with torch.no_grad():  # the model says nothing but <end>
        model.output.weight.zero_()
        model.decoder.final_norm.weight.fill_(0)
        model.output.weight[end] = 0
    model.score = lambda states: torch.nn.functional.one_hot(
        torch.full(states.shape[:-1], end), tokenizer.vocabulary_size
    ).float()
    found = answer(model, tokenizer, turns("a"), GREEDY)
    assert (found.text, found.finish_reason) == ("", "stop")


def test_the_oldest_turns_go_and_are_counted(tokenizer, capsys) -> None:
    messages = turns("a" * 10, "b" * 10, "c" * 10, "d" * 10, "efg", system="h" * 5)
    whole = tokenizer.encode(render_chat(tokenizer, messages))
    assert fitting(tokenizer, messages, len(whole) + 8, 8) == whole
    assert capsys.readouterr().err == ""
    kept = tokenizer.encode(render_chat(tokenizer, [messages[0], *messages[3:]]))
    assert fitting(tokenizer, messages, len(whole) + 7, 8) == kept
    warned = capsys.readouterr().err
    assert f"the conversation has {len(whole)} tokens" in warned
    assert "its 1 oldest turn (2 messages) went unread" in warned
    last = tokenizer.encode(render_chat(tokenizer, [messages[0], messages[5]]))
    assert fitting(tokenizer, messages, len(last) + 8, 8) == last
    assert "2 oldest turns (4 messages)" in capsys.readouterr().err
    # The last turn stays, with less room for the answer where it must be.
    assert fitting(tokenizer, messages, len(last) + 1, 8) == last
    with pytest.raises(DataError, match=f"the last turn alone has {len(last)} tokens"):
        fitting(tokenizer, messages, len(last), 8)


def test_an_encoder_does_not_chat(tokenizer) -> None:
    from langmill.models.config import default_encoder
    from langmill.models.transformer import Transformer

    config = default_encoder(tokenizer.vocabulary_size, layers=1, width=16, heads=2)
    with pytest.raises(ConfigError, match="is an encoder, .* and generates no text"):
        answer(Transformer(config), tokenizer, turns("a"))


def test_in_python(checkpoint) -> None:
    model = langmill.load(checkpoint)
    first = model.chat(turns("ab"), max_tokens=12, seed=3)
    assert first == model.chat(turns("ab"), max_tokens=12, seed=3)
    assert len(first.tokens) <= 12
    greedy = model.chat(turns("ab"), max_tokens=12, temperature=0)
    path = Path(checkpoint, "generation_config.json")
    recommended = {**json.loads(path.read_text()), "do_sample": True, "top_k": 1}
    path.write_text(json.dumps(recommended))
    assert langmill.load(checkpoint).chat(turns("ab"), max_tokens=12, seed=9).text == greedy.text
    Path(checkpoint, "chat_template.jinja").unlink()
    with pytest.raises(CheckpointError, match="has no chat template"):
        langmill.load(checkpoint).chat(turns("ab"))


# ------------------------------------------------------------------------------------------------
# The command


def run(capsys, *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stop:
        main(["chat", *arguments])
    out, err = capsys.readouterr()
    return int(stop.value.code or 0), out, err


OPTIONS = ("--temperature", "0", "--max-tokens", "6")


def test_how_an_answer_is_sampled(checkpoint, monkeypatch) -> None:
    """By what is asked, else what the checkpoint says, else soberly."""
    model, seen = langmill.load(checkpoint), []
    monkeypatch.setattr("langmill.generation.chat.answer", lambda *given, **_: seen.append(given[3]))
    said = {"do_sample": True, "temperature": 0.7}
    for recommended, asked in (({}, {}), ({}, {"temperature": 0}), (said, {}), ({"do_sample": False}, {})):
        model.checkpoint.generation = recommended
        model.chat([{"role": "user", "content": "a"}], **asked)
    assert [(each.temperature, each.top_p) for each in seen] == [(0.4, 0.9), (0, 0.9), (0.7, 1), (1, 1)]


def test_messages_are_successive_turns(checkpoint, capsys) -> None:
    model = langmill.load(checkpoint)
    first = model.chat(turns("ab", system="c"), max_tokens=6, temperature=0).text
    second = model.chat(turns("ab", first, "一", system="c"), max_tokens=6, temperature=0).text
    arguments = (checkpoint, "--message", "ab", "--message", "一", "--system", "c", *OPTIONS)
    status, out, _ = run(capsys, *arguments)
    assert (status, out) == (0, f"{first}\n{second}\n")
    rows = [json.loads(line) for line in run(capsys, *arguments, "--json")[1].splitlines()]
    assert [row["text"] for row in rows] == [first, second]
    # What is given so is said as it is: only typed lines can be commands.
    quit_text = model.chat(turns("/quit"), max_tokens=6, temperature=0).text
    assert run(capsys, checkpoint, "--message", "/quit", *OPTIONS)[1] == f"{quit_text}\n"
    assert {"tokens", "logprobs", "finish_reason", "prompt_tokens"} <= set(rows[0])


def test_a_file_of_conversations(checkpoint, capsys, tmp_path) -> None:
    model = langmill.load(checkpoint)
    both = [turns("ab", "c", "d"), turns("五")]
    texts = [model.chat(messages, max_tokens=6, temperature=0).text for messages in both]
    path = tmp_path / "talks.jsonl"
    path.write_text("\n".join(json.dumps({"messages": messages}) for messages in both))
    status, out, _ = run(capsys, checkpoint, "--input", str(path), *OPTIONS)
    assert (status, out) == (0, f"=== 1 of 2\n{texts[0]}\n=== 2 of 2\n{texts[1]}\n")


def test_lines_that_are_piped_in(checkpoint, capsys, monkeypatch) -> None:
    model = langmill.load(checkpoint)
    first = model.chat(turns("ab"), max_tokens=6, temperature=0).text
    other = model.chat(turns("ab", system="h"), max_tokens=6, temperature=0).text
    lines = "ab\n\n/reset\nab\n/system h\nab\n/what\n/quit\nab\n"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines.encode())))
    status, out, err = run(capsys, checkpoint, *OPTIONS)
    assert (status, out) == (0, f"{first}\n{first}\n{other}\n")
    assert err.count("(begun anew)") == 2
    assert "/what is not known: /reset begins anew" in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--message", "a", "--input", "x"), "--message and --input exclude each other"),
        (("--message", " "), "--message is empty; write what to say"),
        (("--top-p", "2"), "--top-p: '2' is not allowed"),
        (("--input", "/nowhere/talk.json"), "/nowhere/talk.json: cannot be read"),
        (("--message", "a" * 99), "the last turn alone has 102 tokens; the model reads 64"),
    ],
)
def test_mistakes_are_one_line(checkpoint, capsys, arguments, words) -> None:
    status, _, err = run(capsys, checkpoint, *arguments)
    assert status == 2
    assert words in err
    assert err.count("\n") == 1


def test_a_model_without_a_template(checkpoint, capsys) -> None:
    Path(checkpoint, "chat_template.jinja").unlink()
    status, _, err = run(capsys, checkpoint, "--message", "a")
    assert status == 2
    assert "has no chat template" in err and "langmill generate" in err


def read_until(terminal: int, words: bytes, seconds: float = 100) -> bytes:
    """Return what a terminal shows up to `words`."""
    shown, end = b"", time.monotonic() + seconds
    while words not in shown:
        assert time.monotonic() < end, shown
        shown += os.read(terminal, 4096)
    return shown


def test_a_talk_at_a_terminal(checkpoint) -> None:
    """Ctrl-C stops an answer, not the program; Ctrl-D ends it."""
    mine, theirs = pytest.importorskip("pty").openpty()
    code = (
        "import time, langmill.loaded\n"
        "from langmill.cli.main import main\n"
        "class Slow(langmill.loaded.Model):\n"
        "    def chat(self, messages, *, on_text=None, **settings):\n"
        "        on_text('thinking')\n"
        "        if messages[-1]['content'] == 'wait':\n"
        "            time.sleep(60)\n"
        "        return super().chat(messages, on_text=on_text, **settings)\n"
        "langmill.loaded.Model = Slow\n"
        f"main(['chat', {checkpoint!r}, '--max-tokens', '2', '--temperature', '0'])\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    )
    os.close(theirs)
    try:
        assert b"/reset begins anew" in read_until(mine, b"> ")
        os.write(mine, b"wait\n")
        read_until(mine, b"thinking")
        process.send_signal(signal.SIGINT)
        read_until(mine, b"> ")
        os.write(mine, b"ab\n")
        assert b"thinking" in read_until(mine, b"> ")
        os.write(mine, b"\x04")
        assert process.wait(timeout=60) == 0
    finally:
        process.kill()
        os.close(mine)
