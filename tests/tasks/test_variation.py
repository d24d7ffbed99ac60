"""Texts that differ from epoch to epoch: which, how, the same again, and none that is held out."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from small_runs import CommandLine

import langmill
from langmill.batches.labelled import LabelledLoader
from langmill.core.errors import ConfigError
from langmill.tasks.variation import check_variation, varying
from langmill.text.labelled import ClassExample
from langmill.text.labelled_entities import Span
from langmill.text.labelled_spans import TaggedExample
from langmill.training.settings import TrainSettings, VariationSettings

TEXTS = (
    "the old mill turns raw grain into fine flour",
    "这座老磨坊把粮食磨成很细的面粉",
    "a film that nobody forgets again",
)
EXAMPLES = [ClassExample(f"{text} {n}", (str(n % 2),), source=f"f:{n}") for n in range(6) for text in TEXTS]


def asked(operations: str, *, seed: int = 0, **more: object) -> TrainSettings:
    return TrainSettings(seed=seed, augment={"operations": operations, **more})  # type: ignore[arg-type]


def read(settings: TrainSettings, epoch: int, examples: Sequence[object] = EXAMPLES):
    variants = varying(settings, "classify", examples, list)  # type: ignore[arg-type]
    assert variants is not None
    return variants(epoch)


def test_texts_change_by_turns_and_keep_their_labels() -> None:
    for epoch in (0, 1):
        found = read(asked("swap,delete"), epoch)
        changed = [n for n, (old, new) in enumerate(zip(EXAMPLES, found)) if old.text != new.text]
        assert changed == list(range((epoch + 1) % 2, len(EXAMPLES), 2))
        assert [each.labels for each in found] == [each.labels for each in EXAMPLES]
        for old, new in zip(EXAMPLES, found):
            assert not Counter(new.text.replace(" ", "")) - Counter(old.text.replace(" ", "")), (
                "nothing is new"
            )


def test_what_is_read_depends_on_seed_and_epoch_alone() -> None:
    again = varying(asked("swap"), "classify", EXAMPLES, list)  # type: ignore[arg-type]
    assert again is not None
    later = again(4)
    assert [*again(2)] == read(asked("swap"), 2) and [*again(4)] == later
    assert read(asked("swap"), 4) != read(asked("swap"), 2)
    assert read(asked("swap", seed=1), 2) != read(asked("swap"), 2)


def test_synonyms_come_from_vectors(tmp_path: Path) -> None:
    vectors = tmp_path / "words.vec"
    vectors.write_text("3 2\ngrain 1 0\nwheat 0.99 0.1\nflour 0 1\n")
    settings = asked("synonym", vectors=str(vectors), share=1.0)
    assert read(settings, 1, EXAMPLES[:1])[0].text == "the old mill turns raw wheat into fine flour 0"


def test_spans_are_carried_along() -> None:
    text = "yesterday the old miller met Ada Lovelace near a very big London mill in spring"
    spans = tuple(
        Span(text.index(name), text.index(name) + len(name), "X") for name in ("Ada Lovelace", "London")
    )
    example = TaggedExample(text, spans, source="f:1")
    seen = set()
    for epoch in range(1, 40, 2):
        (found,) = read(asked("swap,delete", share=0.4), epoch, [example])
        assert [found.text[span.begin : span.end] for span in found.spans] == ["Ada Lovelace", "London"]
        assert found.text != text and not found.tokens
        seen.add(found.spans)
    assert len(seen) > 3, "they move"


@dataclass(frozen=True)
class Row:
    tokens: int
    name: str


def test_a_loader_reads_other_rows_each_epoch_and_goes_on_where_it_stood() -> None:
    def variants(epoch: int) -> list[Row]:
        return [Row(n + epoch, f"{epoch}.{n}") for n in range(5)]

    def loader() -> LabelledLoader:
        return LabelledLoader(
            variants(9), batch=2, collate=lambda rows: [r.name for r in rows], seed=0, variants=variants
        )

    whole = loader()
    batches = [whole.take() for _ in range(9)]  # three epochs of three batches
    for epoch in range(3):
        names = {name for batch in batches[3 * epoch : 3 * epoch + 3] for name in batch}
        assert names == {f"{epoch}.{n}" for n in range(5)}
    for steps in (2, 3, 7):
        first, second = loader(), loader()
        for _ in range(steps):
            first.take()
        second.state = first.state
        assert [second.take() for _ in range(9 - steps)] == batches[steps:]


def write(path: Path, count: int, *, begin: int = 0) -> str:
    rows = [
        {"text": f"film {n} is {('awful', 'great')[n % 2]} and goes on and on", "label": n % 2}
        for n in range(begin, begin + count)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_runs_read_changed_texts_and_never_held_out_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from langmill.tasks.classify import Classifying

    seen: list[list[str]] = []
    encode = Classifying.encode

    def spy(self, examples, *rest, **named):  # type: ignore[no-untyped-def]
        seen.append([each.text for each in examples])
        return encode(self, examples, *rest, **named)

    monkeypatch.setattr(Classifying, "encode", spy)
    data, held = write(tmp_path / "a.jsonl", 32), write(tmp_path / "b.jsonl", 12, begin=100)
    langmill.train(
        "classify",
        data,
        held_out_data=held,
        output=str(tmp_path / "run"),
        model={"family": "lstm", "layers": 1, "width": 16},
        batch=16,
        epochs=3,
        augment={"operations": "swap,delete"},
        tensorboard=False,
    )
    plain, evaluated, *epochs = seen
    assert len(plain) == 32 and len(evaluated) == 12 and len(epochs) == 3
    assert len({tuple(texts) for texts in epochs}) == 3
    changed = {text for texts in epochs for text in texts} - set(plain)
    assert len(changed) == 48, "half of the texts in each epoch, each time anew"
    assert not any(f"film {n} " in text for text in changed for n in range(100, 112))
    assert "augment: swap,delete; a text is read as it is and changed by turns" in capsys.readouterr().err
    assert "changed by turns (swap,delete)" in (tmp_path / "run" / "README.md").read_text()


def test_a_tagger_learns_from_texts_that_vary(tmp_path: Path) -> None:
    names = ("Ada", "Bob", "Eve", "Max")
    lines = [f"yesterday O\nwe O\nmet O\n{names[n % 4]} B-PER\nin O\ntown {'O'}\n" for n in range(40)]
    data = tmp_path / "names.conll"
    data.write_text("\n".join(lines))
    result = langmill.train(
        "ner",
        str(data),
        output=str(tmp_path / "run"),
        model={"family": "lstm", "layers": 1, "width": 24},
        tokenizer="char",
        steps=60,
        batch=8,
        optimizer={"learning_rate": 0.02},
        augment={"operations": "swap,delete", "share": 0.3},
        tensorboard=False,
    )
    assert result.metrics["f1"] > 0.9


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"operations": "swop"}, "unknown operation 'swop'; operations: swap"),
        ({"operations": "synonym"}, "operation synonym needs --augment.vectors FILE"),
        ({"operations": "swap,contextual"}, "operation contextual needs --augment.model CKPT"),
        ({"operations": "foo"}, "operations: swap, delete, insert, synonym, contextual$"),
        ({"operations": "translate"}, "write a file by `langmill data augment`"),
        ({"share": 0.2}, "--augment.share needs operations: --augment swap,delete"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_variation(VariationSettings(**settings), "classify")  # type: ignore[arg-type]


@pytest.mark.parametrize("task", ["qa", "embed", "lm", "denoise"])
def test_other_tasks_read_their_texts_as_they_are(tmp_path: Path, task: str) -> None:
    data = write(tmp_path / "a.jsonl", 4)
    with pytest.raises(ConfigError, match=f"--augment.operations has no effect on {task}; leave it out"):
        langmill.train(task, data, output=str(tmp_path / "run"), augment={"operations": "swap"})


def test_the_command_line_has_short_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = CommandLine(capsys)
    data, held = write(tmp_path / "a.jsonl", 24), write(tmp_path / "b.jsonl", 8, begin=50)
    rest = write(tmp_path / "c.jsonl", 10, begin=70)
    teacher = tmp_path / "teacher"
    assert line("train", "classify", data, "--held-out-data", held, "-o", teacher).status == 0
    said = line(
        *("train", "classify", data, "--held-out-data", held, "-o", tmp_path / "run", "--model", "gru"),
        *("--model.layers", 1, "--model.width", 16, "--steps", 3, "--no-tensorboard"),
        *("--teacher", teacher, "--teacher", teacher, "--unlabelled", rest, "--augment", "swap,delete"),
    )
    assert said.status == 0, said.err
    assert f"the probabilities of {teacher} and {teacher}" in said.err
    run = (tmp_path / "run" / "run.yaml").read_text()
    assert "operations: swap,delete" in run and "confidence: 0.0" in run
    shown = line("train", "--help").out
    for name in ("--teacher, --teacher.checkpoints", "--augment, --augment.operations", "--teacher.weight X"):
        assert name in shown or ", ".join(reversed(name.split(", "))) in shown, name
