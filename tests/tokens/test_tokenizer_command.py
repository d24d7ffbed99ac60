"""`langmill tokenizer` from end to end. [tests]"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from token_samples import TEXTS

from langmill.cli.tokenizer import tokenizer
from langmill.core.errors import LangmillError
from langmill.tokens import Tokenizer


def run(*arguments: object) -> Result:
    """Run the command; mistakes are raised."""
    return CliRunner().invoke(tokenizer, [str(each) for each in arguments], catch_exceptions=False)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Return a folder with a text file and a file of rows."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    (folder / "a.txt").write_text("".join(TEXTS), encoding="utf-8")
    (folder / "b.jsonl").write_text('{"body": "一行 文字"}\n{"text": "另一行 row"}\n', encoding="utf-8")
    return folder


@pytest.mark.parametrize("kind", ["bpe", "char", "wordpiece", "unigram"])
def test_train_inspect_compare(corpus: Path, tmp_path: Path, kind: str) -> None:
    out = tmp_path / "out"
    result = run("train", corpus / "a.txt", "-o", out, "--kind", kind, "--vocabulary", 400, "--json")
    assert result.exit_code == 0
    told = json.loads(result.stdout)
    assert told["vocabulary"] == Tokenizer.load(out).vocabulary_size <= 400
    assert "1 file" in result.stderr

    result = run("inspect", out, "the fox", "春眠", "--json")
    found = json.loads(result.stdout)
    assert found["kind"] == kind
    assert found["characters"] == len("the fox 春眠")
    assert len(found["pieces"]) == found["tokens"]

    shown = run("inspect", out / "tokenizer.json", "the fox 春眠").stdout
    assert "bytes per token" in shown
    assert ("round trip        exact" in shown) is (kind != "wordpiece")
    assert "|" in shown

    rows = json.loads(run("compare", out, out, "--file", corpus / "a.txt", "--json").stdout)["tokenizers"]
    assert [row["name"] for row in rows] == [str(out)]
    assert rows[0]["round_trip"] is (kind != "wordpiece")


def test_the_limit_is_spread_and_told(corpus: Path, tmp_path: Path) -> None:
    result = run("train", corpus / "a.txt", "-o", tmp_path / "out", "--maximum-bytes", 3000)
    assert "evenly spread" in result.stderr
    assert "evenly" not in result.stdout


def test_rows_are_skipped_only_when_asked(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(LangmillError, match=r"b\.jsonl:1"):
        run("train", corpus / "b.jsonl", "-o", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    result = run("train", corpus / "b.jsonl", "-o", tmp_path / "out", "--on-bad-row", "skip")
    assert "skipped: 1" in result.stderr
    assert "note: the text gave" in result.stderr
    run("train", corpus / "b.jsonl", "-o", tmp_path / "out", "--text-field", "body", "--on-bad-row", "skip")


def test_special_tokens_and_boundary(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(
        *("train", corpus / "a.txt", "-o", out, "--boundary", "line"),
        *("--special", "<|im_start|>", "--special", "<|im_end|>", "--vocabulary", 300),
    )
    assert Tokenizer.load(out).encode("<|im_start|><|im_end|>") == [2, 3]


def test_inspect_without_text_says_what_it_is(trained: dict[str, Tokenizer], tmp_path: Path) -> None:
    trained["unigram"].save(tmp_path)
    shown = run("inspect", tmp_path).stdout
    assert "kind              unigram" in shown
    assert "eos </s> = 1" in shown


def test_long_texts_show_only_the_first_pieces(trained: dict[str, Tokenizer], tmp_path: Path) -> None:
    trained["char"].save(tmp_path)
    shown = run("inspect", tmp_path, "the fox", "--pieces", 3, "--ids").stdout
    assert "t|h|e\n" in shown
    assert "the first 3 of 7 pieces" in shown
    assert "\t0-1\tt\n" in shown


def test_compare_prints_a_table(trained: dict[str, Tokenizer], tmp_path: Path) -> None:
    for kind in ("char", "bpe"):
        trained[kind].save(tmp_path / kind)
    lines = run("compare", tmp_path / "char", tmp_path / "bpe", "--text", "the fox 春眠").stdout.splitlines()
    assert sum("yes" in line for line in lines) == 2
    assert "per Han" in "".join(lines)


def test_mistakes(trained: dict[str, Tokenizer], corpus: Path, tmp_path: Path) -> None:
    trained["char"].save(tmp_path / "char")
    with pytest.raises(LangmillError, match="no such tokenizer"):
        run("inspect", tmp_path / "none", "x")
    with pytest.raises(LangmillError, match="give one of them"):
        run("inspect", tmp_path / "char", "x", "--file", corpus / "a.txt")
    with pytest.raises(LangmillError, match="--file FILE or --text TEXT"):
        run("compare", tmp_path / "char")
    with pytest.raises(LangmillError, match="text is empty"):
        run("inspect", tmp_path / "char", "")
    with pytest.raises(LangmillError, match="nowhere"):
        run("train", tmp_path / "nowhere", "-o", tmp_path / "out")
    assert run("train", corpus / "a.txt").exit_code == 2
