"""`langmill evaluate` from end to end."""

from __future__ import annotations

import json
import math

import pytest
from tiny_checkpoint import CHINESE, ENGLISH, write_checkpoint

from langmill.cli.main import main


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "held-out.txt"
    path.write_text("".join(f"{n} {ENGLISH}\n{n} {CHINESE}\n" for n in range(4)), encoding="utf-8")
    return path


def call(capsys, *arguments):
    """Run the command; return its exit status, stdout and stderr."""
    with pytest.raises(SystemExit) as stop:
        main(["evaluate", *map(str, arguments)])
    out, err = capsys.readouterr()
    return stop.value.code, out, err


def test_json_is_one_object_with_the_agreed_keys(capsys, folder, data):
    status, out, err = call(capsys, folder, data, "--boundary", "line", "--json")
    assert status == 0
    tree = json.loads(out)
    text = data.read_text(encoding="utf-8").splitlines()
    assert (tree["documents"], tree["characters"]) == (8, len("".join(text)))
    assert tree["bytes"] == len("".join(text).encode())
    assert tree["tokens"] == tree["characters"]
    low, high = tree["interval"]
    assert low < tree["bits_per_byte"] < high
    assert (tree["interval_unit"], tree["interval_level"]) == ("document", 0.95)
    nats = tree["tokens"] * math.log(tree["perplexity"])
    assert tree["bits_per_byte"] == pytest.approx(nats / math.log(2) / tree["bytes"])
    assert tree["bits_per_character"] == pytest.approx(nats / math.log(2) / tree["characters"])
    assert (tree["context"], tree["stride"]) == (32, 16)
    assert [each["name"] for each in tree["references"]] == ["xz -9 per document", "xz -9 all together"]
    assert all(each["bits_per_byte"] > 0 and each["note"] for each in tree["references"])
    assert any("no n-gram reference" in note for note in tree["notes"])
    assert err.startswith("read 1 file, 8 documents")


def test_context_and_stride_are_obeyed(capsys, folder, data):
    _, out, _ = call(capsys, folder, data, "--context", 10, "--stride", 3, "--no-references", "--json")
    tree = json.loads(out)
    assert (tree["context"], tree["stride"], tree["references"]) == (10, 3, [])
    status, out, err = call(capsys, folder, data, "--context", 100)
    assert (status, out) == (2, "")
    assert "--context 100 is not allowed; it must be 1 to 32" in err


def test_training_text_gives_the_n_gram(capsys, folder, data, tmp_path):
    train = tmp_path / "train.jsonl"
    train.write_text(json.dumps({"body": ENGLISH + CHINESE}, ensure_ascii=False) * 1, encoding="utf-8")
    status, out, _ = call(capsys, folder, data, "--train-data", train, "--text-field", "body")
    assert status == 0
    lines = out.splitlines()
    assert lines[0].split() == ["bits/byte"]
    assert lines[1].startswith(str(folder))
    assert lines[4].startswith("8-gram")
    assert "modified Kneser-Ney" in lines[4]
    assert "no n-gram" not in out


def test_two_checkpoints(capsys, folder, data, tmp_path):
    even = write_checkpoint(tmp_path / "even", even=True)
    arguments = (data, "--boundary", "line", "--no-references")
    _, out, _ = call(capsys, even, *arguments, "--against", folder)
    assert f"{even} is better than {folder} by" in out
    assert "the difference is real" in out
    _, out, _ = call(capsys, even, *arguments, "--against", folder, "--json")
    against = json.loads(out)["against"]
    assert against["real"] is True
    assert against["difference"] == pytest.approx(json.loads(out)["bits_per_byte"] - against["bits_per_byte"])
    assert against["difference_interval"][1] < 0
    _, out, _ = call(capsys, folder, *arguments, "--against", folder)
    assert "no real difference" in out
    assert "p = 1" in out


def test_too_little_text_to_tell(capsys, folder, tmp_path):
    (tmp_path / "short.txt").write_text(CHINESE, encoding="utf-8")
    status, out, _ = call(capsys, folder, tmp_path / "short.txt", "--against", folder, "--json")
    tree = json.loads(out)
    assert (status, tree["interval"], tree["against"]["real"]) == (0, None, None)
    assert any("too little text for blocks" in note for note in tree["notes"])


def test_a_lossy_tokenizer_is_named(capsys, data, tmp_path):
    folder = write_checkpoint(tmp_path / "wordpiece", kind="wordpiece")
    status, out, _ = call(capsys, folder, data, "--no-references")
    assert status == 0
    assert "note: the tokenizer (wordpiece) loses part of the text: 1 of 1 document looked at" in out


def test_mistakes_are_one_line(capsys, folder, data, tmp_path):
    (tmp_path / "empty.txt").write_text("\n")
    (tmp_path / "bad.jsonl").write_text('{"text": "times"}\n{"txt": 1}\n')
    for arguments, message in (
        ((folder, tmp_path / "empty.txt"), "no text to score"),
        ((folder, tmp_path / "none.txt"), "none.txt"),
        ((tmp_path / "nowhere", data), "no such folder"),
        ((folder, data, "--train-data", tmp_path / "gone.txt"), "gone.txt"),
        ((folder, data, "--encoding", "klingon"), "klingon"),
        ((folder, tmp_path / "bad.jsonl"), "bad.jsonl:2"),
        ((folder,), "DATA"),
    ):
        status, out, err = call(capsys, *arguments)
        assert (status, out) == (2, "")
        assert err.splitlines()[-1].startswith("langmill: error: ")
        assert message in err
    status, _, err = call(capsys, folder, tmp_path / "bad.jsonl", "--on-bad-row", "skip", "--no-references")
    assert status == 0
    assert "skipped: 1" in err
