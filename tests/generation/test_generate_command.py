"""`langmill generate`, end to end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from langmill.cli.main import main


@pytest.fixture
def checkpoint(make_model, qwen, tmp_path) -> str:
    from langmill.checkpoint.folder import Checkpoint, save_checkpoint
    from langmill.tokens.train import train_tokenizer

    tokenizer = train_tokenizer(["abcdefgh 一二三四五\n"] * 3, kind="char")
    model = make_model(vocabulary=tokenizer.vocabulary_size, **qwen)
    save_checkpoint(tmp_path / "run", Checkpoint(model, tokenizer))
    return str(tmp_path / "run")


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stop:
        main(["generate", *arguments])
    out, err = capsys.readouterr()
    return int(stop.value.code or 0), out, err


def test_one_prompt_is_streamed_after_itself_and_equal_seeds_agree(checkpoint, capsys) -> None:
    arguments = (checkpoint, "--prompt", "一二", "--max-tokens", "15", "--seed", "1")
    status, out, err = run(capsys, *arguments)
    assert status == 0
    assert out.startswith("一二")
    assert "tokens in" in err
    assert run(capsys, *arguments)[1] == out
    assert run(capsys, *arguments[:-1], "2")[1] != out


def test_what_the_checkpoint_recommends_holds_where_nothing_is_given(checkpoint, capsys) -> None:
    import langmill

    path = Path(checkpoint) / "generation_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(
        json.dumps(config | {"do_sample": True, "top_k": 1, "temperature": 0.5}), encoding="utf-8"
    )
    arguments = (checkpoint, "--prompt", "一二", "--max-tokens", "15")
    greedy = run(capsys, *arguments, "--temperature", "0")[1]
    assert run(capsys, *arguments, "--seed", "3")[1] == greedy
    assert "一二" + langmill.load(checkpoint).generate("一二", max_tokens=15, seed=4).text + "\n" == greedy
    assert run(capsys, *arguments, "--seed", "3", "--top-k", "0", "--temperature", "1")[1] != greedy
    # Without do_sample these figures say nothing: Transformers, too, ignores them then.
    path.write_text(json.dumps(config | {"do_sample": False, "top_k": 1}), encoding="utf-8")
    assert run(capsys, *arguments, "--seed", "3")[1] != greedy


def test_json(checkpoint, capsys) -> None:
    status, out, _ = run(capsys, checkpoint, "--prompt", "a", "--prompt", "b", "--json", "--max-tokens", "4")
    assert status == 0
    rows = [json.loads(line) for line in out.splitlines()]
    assert len(rows) == 2
    for row in rows:
        assert set(row) == {
            *("text", "tokens", "logprobs", "finish_reason", "prompt_tokens", "score", "alternatives")
        }
        assert len(row["tokens"]) == len(row["logprobs"])


def test_prompt_files_and_several_prompts(checkpoint, capsys, tmp_path) -> None:
    (tmp_path / "p.txt").write_text("三四\n", encoding="utf-8")
    status, out, _ = run(
        capsys, checkpoint, "--prompt", "ab", "--prompt-file", str(tmp_path / "p.txt"), "--max-tokens", "3"
    )
    assert status == 0
    assert "=== 1 of 2\nab" in out
    assert "=== 2 of 2\n三四" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--top-p", "2"), "--top-p: '2' is not allowed"),
        (("--prompt-file", "/nowhere/p.txt"), "/nowhere/p.txt: cannot be read"),
        (("--prompt", "a" * 99), "prompt 1 has 99 tokens; the model reads 64"),
    ],
)
def test_mistakes_are_one_line(checkpoint, capsys, arguments, message: str) -> None:
    status, _, err = run(capsys, checkpoint, *arguments)
    assert status == 2
    assert message in err
    assert err.count("\n") == 1


def test_alternatives_are_shown(checkpoint, capsys) -> None:
    arguments = (checkpoint, "--prompt", "a", "--max-tokens", "4", "--beams", "3", "--alternatives", "2")
    status, out, _ = run(capsys, *arguments)
    assert status == 0
    first, second = out.split("--- 2, score ")
    assert first.startswith("a") and "(the first: " in second
    status, _, err = run(capsys, checkpoint, "--prompt", "a", "--alternatives", "2")
    assert status == 2
    assert "error: alternatives (2) must not be more than beams (1)" in err


def test_no_prompt_is_printed_where_nothing_can_follow(make_model, qwen, tmp_path, capsys) -> None:
    from langmill.checkpoint.folder import Checkpoint, save_checkpoint
    from langmill.models.initialise import without_scores
    from langmill.tokens.train import train_tokenizer

    tokenizer = train_tokenizer(["the mill turns"], kind="char")
    model = without_scores(make_model(vocabulary=tokenizer.vocabulary_size, **qwen))
    save_checkpoint(tmp_path / "states", Checkpoint(model, tokenizer))
    status, out, error = run(capsys, str(tmp_path / "states"), "--prompt", "the mill")
    assert (status, out) == (2, "") and "generates no text" in error
