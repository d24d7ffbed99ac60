"""What a run was trained on: known, gone, or never named; and what of it was held out."""

from __future__ import annotations

import pytest
import yaml
from evaluation_samples import CHINESE, ENGLISH, make_model

from langmill.checkpoint import Checkpoint
from langmill.core.errors import DataError
from langmill.evaluation.report import (
    Evaluation,
    add_references,
    held_out_report,
    overlap_note,
    score_checkpoint,
)
from langmill.evaluation.texts import Texts, TrainingData, named_data, read_texts, run_data


@pytest.fixture
def run(tmp_path):
    """Return a function that makes a run folder trained on a book of both languages."""
    (tmp_path / "book.txt").write_text(
        "".join(f"{n}. {ENGLISH}\n{n}。{CHINESE}\n" for n in range(60)), encoding="utf-8"
    )

    def make(**changes):
        tree = {"task": "lm", "files": [str(tmp_path / "book.txt")], "held_out_files": []}
        tree |= {"seed": 3, "data": {"held_out": 0.2, "boundary": "line"}}
        folder = tmp_path / "run"
        folder.mkdir(exist_ok=True)
        (folder / "run.yaml").write_text(yaml.safe_dump(tree | changes, allow_unicode=True), encoding="utf-8")
        return folder

    return make


def test_training_and_held_out_text_are_the_run_s_split(run, tmp_path):
    data = run_data(run())
    trained, held_out = list(data.texts()), data.held_out()
    whole = read_texts([tmp_path / "book.txt"]).texts[0].splitlines()
    assert sorted([*trained, *held_out.texts]) == sorted(whole)
    assert not set(trained) & set(held_out.texts)
    assert 0.1 < len("".join(held_out.texts)) / len("".join(whole)) < 0.3
    assert len(held_out.names) == len(held_out.texts)
    assert held_out.names[0].startswith(f"{tmp_path}/book.txt")


def test_named_held_out_files_are_those(run, tmp_path):
    (tmp_path / "test.txt").write_text(f"{ENGLISH}\n{CHINESE}\n", encoding="utf-8")
    data = run_data(run(held_out_files=[str(tmp_path / "test.txt")]))
    assert data.held_out().texts == (ENGLISH, CHINESE)
    assert len(list(data.texts())) == 120


def test_what_is_not_known_says_why(run, tmp_path):
    assert "has no run.yaml" in run_data(tmp_path).why_not
    assert "names no files" in run_data(run(files=[])).why_not
    gone = run_data(run(files=[str(tmp_path / "gone.txt")]))
    assert "text that is not here" in gone.why_not
    assert list(gone.texts()) == []
    with pytest.raises(DataError, match="held-out text is not known.*not here"):
        gone.held_out()
    with pytest.raises(DataError, match="held out no text"):
        run_data(run(data={"held_out": 0.0})).held_out()
    with pytest.raises(DataError, match="gone.txt"):
        named_data([str(tmp_path / "gone.txt")])


def test_scoring_on_training_files_is_noticed(run, tmp_path):
    data = run_data(run())
    (tmp_path / "test.txt").write_text(ENGLISH)
    assert data.overlap([tmp_path / "test.txt"]) == []
    assert overlap_note(data, [str(tmp_path / "test.txt")], "runs/a") == ()
    (note,) = overlap_note(data, [str(tmp_path / "*.txt")], "runs/a")
    assert note.startswith(f"{tmp_path}/book.txt: among the training data of runs/a")


def test_references_stand_beside_the_score(characters):
    model = make_model(characters.vocabulary_size)
    texts = Texts((ENGLISH, CHINESE), ("a", "b"))
    plain = Evaluation("runs/模型", score_checkpoint(Checkpoint(model, characters), "runs/模型", texts))
    found = add_references(plain, texts, TrainingData(why_not="nobody said"))
    assert [each.name for each in found.references] == ["xz -9 per document", "xz -9 all together"]
    assert found.notes == ("no n-gram reference: the training text is not known: nobody said",)
    table = found.table().splitlines()
    # Columns end at the same place, and a Chinese character is two columns wide.
    assert table[0] == " " * 20 + "bits/byte"
    assert table[1].startswith("runs/模型" + " " * 11 + f"{plain.score.bits_per_byte:9.4f}")
    assert table[2].startswith(
        "xz -9 per document" + " " * 2 + f"{found.references[0].bits_per_byte:9.4f}  each of 2"
    )
    assert "no n-gram reference" in table[-1]


def test_a_run_reports_on_its_own_held_out_text(run, characters, capsys):
    checkpoint = Checkpoint(make_model(characters.vocabulary_size), characters)
    text = held_out_report(run(), checkpoint)
    assert "8-gram" in text
    assert "xz -9 per document" in text
    assert "bits per character" in text
    assert capsys.readouterr().out == ""
