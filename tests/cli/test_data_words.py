"""`langmill data words` from end to end."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from langmill.cli.data_words import words
from langmill.core.errors import LangmillError

pytest.importorskip("rjieba")


def run(*arguments: object) -> Result:
    """Run the command; mistakes are raised."""
    return CliRunner().invoke(words, [str(each) for each in arguments], catch_exceptions=False)


def made(tmp_path: Path, name: str, text: str, *arguments: object) -> list[str]:
    """Return the lines that the command makes of a file."""
    (tmp_path / name).write_text(text, encoding="utf-8")
    run(tmp_path / name, "-o", tmp_path / "out.txt", "--overwrite", *arguments)
    return (tmp_path / "out.txt").read_text(encoding="utf-8").splitlines()


def test_sentences_a_line(tmp_path: Path) -> None:
    text = "Call me Ishmael. Some years ago, Mr. Ahab!\n\n我们爱天安门。你好吗？\n...\n"
    expected = ["call me ishmael", "some years ago mr. ahab", "我们 爱 天安门", "你好 吗"]
    assert made(tmp_path, "a.txt", text) == expected
    assert made(tmp_path, "a.txt", text, "--no-lowercase", "--signs")[:2] == [
        "Call me Ishmael .",
        "Some years ago , Mr. Ahab !",
    ]
    (tmp_path / "rows.jsonl").write_text('{"body": "One. Two."}\n', encoding="utf-8")
    result = run(tmp_path / "rows.jsonl", "-o", tmp_path / "o.txt.gz", "--text-field", "body", "--json")
    told = json.loads(result.stdout)
    assert (told["sentences"], told["words"]) == (2, 2) and "1 document" in told["read"]
    assert gzip.decompress((tmp_path / "o.txt.gz").read_bytes()) == b"one\ntwo\n"


def test_stdout(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("你好。 Go!", encoding="utf-8")
    assert run(tmp_path / "a.txt", "-o", "-").stdout == "你好\ngo\n"
    with pytest.raises(LangmillError, match="-o FILE"):
        run(tmp_path / "a.txt", "-o", "-", "--json")


def test_stop_words_and_dictionary(tmp_path: Path) -> None:
    pytest.importorskip("stopwordsiso")
    assert made(tmp_path, "a.txt", "The whale is the King. 鲸的王", "--stop-words", "en,zh") == [
        "whale king",
        "鲸 王",
    ]
    (tmp_path / "words.txt").write_text("云计算\n", encoding="utf-8")
    assert "云计算" in made(tmp_path, "a.txt", "学云计算", "--dictionary", tmp_path / "words.txt")[0]
    with pytest.raises(LangmillError, match="no stop words of 'zn'"):
        made(tmp_path, "a.txt", "a", "--stop-words", "zn")


def test_phrases_are_learned_joined_and_kept(tmp_path: Path) -> None:
    pytest.importorskip("stopwordsiso")
    text = "we saw the moby dick\nin new bedford the dick sank\nmoby came\n" * 3
    text += "of a of the\n" * 40 + "new bedford of moby dick\n" * 30
    learned = made(tmp_path, "a.txt", text, "--learn-phrases", tmp_path / "p.json", "--threshold", 4)
    assert learned[-1] == "new_bedford of moby_dick"
    applied = made(
        tmp_path, "b.txt", "Moby Dick of New Bedford", "--phrases", tmp_path / "p.json", "--stop-words", "en"
    )
    assert applied == ["moby_dick new_bedford"]
    assert made(
        tmp_path, "b.txt", "moby of dick", "--phrases", tmp_path / "p.json", "--stop-words", "en"
    ) == ["moby dick"]
    with pytest.raises(LangmillError, match="read or learned"):
        made(tmp_path, "a.txt", "a", "--phrases", "x", "--learn-phrases", "y")


def test_ngrams(tmp_path: Path) -> None:
    assert made(tmp_path, "a.txt", "the white whale\n红楼 梦\n鲸\n", "--ngrams", 2) == [
        "the_white white_whale",
        "红楼梦",
    ]


def test_tags(tmp_path: Path) -> None:
    assert made(tmp_path, "a.txt", "The_DET bank_NOUN\n银行_n\n", "--tags") == ["the|DET bank|NOUN", "银行|n"]
    columns = "EU NNP B-ORG\nrejects VBZ O\n\nPeter NNP B-PER\n"
    assert made(tmp_path, "a.conll", columns, "--tags", "--tag-column", 2, "--no-lowercase") == [
        "EU|NNP rejects|VBZ",
        "Peter|NNP",
    ]
    with pytest.raises(LangmillError, match="--tags does not go together"):
        made(tmp_path, "a.txt", "a_B", "--tags", "--learn-phrases", "p.json")
    with pytest.raises(LangmillError, match=r"a\.txt: no sign stands"):
        made(tmp_path, "a.txt", "no tags", "--tags")


def test_class_labels_are_carried_along(tmp_path: Path) -> None:
    assert made(tmp_path, "a.txt", "__label__Good __label__x It is. It was!\nNone. Here\n") == [
        "__label__Good __label__x it is it was",
        "none",
        "here",
    ]
    row = json.dumps({"text": "好。很好", "label": "very good"}) + "\n"
    assert made(tmp_path, "a.jsonl", row, "--label-field", "label") == ["__label__very_good 好 很 好"]
    with pytest.raises(LangmillError, match=r"a\.jsonl:1: no field 'lable'; did you mean label"):
        made(tmp_path, "a.jsonl", row, "--label-field", "lable")


def test_lines_are_whole_across_the_parts_of_a_document(tmp_path: Path) -> None:
    text = ("__label__a one. two\n" + "Three. Four\n") * 40_000  # more than a part
    found = made(tmp_path, "a.txt", text)
    assert found == ["__label__a one two", "three", "four"] * 40_000


def test_a_long_line_is_cut_between_words(tmp_path: Path) -> None:
    """A document longer than a reader's part comes out whole."""
    lines = made(tmp_path, "a.txt", "word " * 250_000)
    assert lines == [" ".join(["word"] * 250_000)]


def test_documents_are_counted_as_elsewhere(tmp_path: Path) -> None:
    """A text file is one document, or as many as separators make; a row is one."""
    (tmp_path / "a.txt").write_text(
        "One.\n\nTwo. Three\n<|endoftext|>\n__label__x It is. So\nfour", encoding="utf-8"
    )
    (tmp_path / "b.jsonl").write_text('{"text": "Five.\\nsix"}\n', encoding="utf-8")
    result = run(tmp_path / "a.txt", tmp_path / "b.jsonl", "-o", tmp_path / "out.txt")
    assert "read 2 files, 3 documents" in result.stderr
    assert (tmp_path / "out.txt").read_text().splitlines() == [
        "one", "two", "three", "__label__x it is so", "four", "five", "six",
    ]  # fmt: skip
    assert result.stdout.endswith("out.txt: 7 sentences, 9 words\n")
    (tmp_path / "c.txt").write_text("Word", encoding="utf-8")
    assert run(tmp_path / "c.txt", "-o", tmp_path / "c2.txt").stdout.endswith("c2.txt: 1 sentence, 1 word\n")


def test_encoding(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("春眠\n不觉晓_v\n".encode("gb18030"))
    with pytest.raises(LangmillError, match=r"a\.txt:1: .*pass --encoding gb18030"):
        run(tmp_path / "a.txt", "-o", tmp_path / "out.txt")
    run(tmp_path / "a.txt", "-o", tmp_path / "out.txt", "--encoding", "gb18030")
    assert "春" in (tmp_path / "out.txt").read_text(encoding="utf-8")
    (tmp_path / "b.txt").write_bytes("银行_n\n".encode("gb18030"))
    run(tmp_path / "b.txt", "-o", tmp_path / "tags.txt", "--tags", "--encoding", "gb18030")
    assert (tmp_path / "tags.txt").read_text(encoding="utf-8") == "银行|n\n"


def test_no_word_is_no_result(tmp_path: Path) -> None:
    for name, text in (("empty.txt", ""), ("signs.txt", "... !?\n")):
        (tmp_path / name).write_text(text)
        with pytest.raises(LangmillError, match="no word to write: 1 file"):
            run(tmp_path / name, "-o", tmp_path / "out.txt")
    assert not (tmp_path / "out.txt").exists()


def test_failures_leave_no_file(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "a"}\n{}\n', encoding="utf-8")
    with pytest.raises(LangmillError, match=r"a\.jsonl:2"):
        run(tmp_path / "a.jsonl", "-o", tmp_path / "out.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["a.jsonl"]
    result = run(tmp_path / "a.jsonl", "-o", tmp_path / "out.txt", "--on-bad-row", "skip")
    assert "skipped: 1 missing field" in result.stderr


@pytest.mark.parametrize("name", ["words", "augment"])
def test_help_is_light(name: str) -> None:
    code = (
        f"import sys; from langmill.cli.data_{name} import {name} as command\n"
        "command.main(['--help'], standalone_mode=False)\n"
        "heavy = {'torch', 'numpy', 'rjieba', 'stopwordsiso', 'gensim'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--on-bad-row" in done.stdout
