"""`langmill data` from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from small_runs import CommandLine

from langmill.text.settings import StatisticsSettings

TEXT = "The mill by the river turns slowly and the farmers bring their grain, {} carts in all, to be ground."


def corpus(path: Path, count: int = 30) -> Path:
    rows = [
        {"text": TEXT.format(n) + f" Cart {n * n} waits {n**3} hours.", "label": "ab"[n % 2]}
        for n in range(count)
    ]
    rows.append(rows[0])
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + "{\n")
    return path


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_clean(tmp_path: Path, command: CommandLine) -> None:
    source, output = corpus(tmp_path / "in.jsonl"), tmp_path / "out.jsonl"
    said = command(
        "data", "clean", source, "-o", output, "--html", "strip", "--dedup", "exact", "--workers", 1
    )
    assert said.status == 0, said.err
    assert "kept                30  documents" in said.out
    assert "1  exact duplicate (first: " in said.out
    assert "1  not valid JSON (first: " in said.out
    assert [row["label"] for row in lines(output)] == ["a", "b"] * 15
    report = json.loads((tmp_path / "out.report.json").read_text())
    assert report["settings"]["html"] == "strip"
    assert report["settings"]["dedup"] == "exact"


def test_options_override_the_file_of_settings(tmp_path: Path, command: CommandLine) -> None:
    source = corpus(tmp_path / "in.jsonl")
    config = tmp_path / "clean.yaml"
    config.write_text("html: keep\ndedup: none\n")
    said = command(
        "data", "clean", source, "-o", tmp_path / "o.jsonl", "--config", config, "--dedup", "exact", "--json"
    )
    found = json.loads(said.out)
    assert (found["kept"], found["settings"]["html"]) == (30, "keep")
    config.write_text("htlm: keep\n")
    said = command("data", "clean", source, "-o", tmp_path / "o.jsonl", "--config", config)
    assert "clean.yaml: unknown setting htlm; did you mean html?" in said.error


def test_dedup(tmp_path: Path, command: CommandLine) -> None:
    source, output = corpus(tmp_path / "in.jsonl"), tmp_path / "out.txt"
    said = command("data", "dedup", source, "-o", output, "--json", "--threshold", "0.99")
    found = json.loads(said.out)
    assert found["read"] == found["kept"] + sum(found["rejected"].values()) == 32
    assert output.read_text().count("<|endoftext|>\n") == found["kept"] - 1


def test_dedup_by_datatrove(tmp_path: Path, command: CommandLine) -> None:
    pytest.importorskip("datatrove")
    source, output = corpus(tmp_path / "in.jsonl"), tmp_path / "out.jsonl"
    options = ("--dedup", "exact", "--engine", "datatrove", "--tasks", 1, "--json")
    said = command("data", "dedup", source, "-o", output, *options)
    assert json.loads(said.out)["kept"] == 30
    assert {path.name for path in tmp_path.iterdir()} == {
        "in.jsonl",
        "out.jsonl",
        "out.rejects.jsonl",
        "out.report.json",
    }


def test_split_and_check(tmp_path: Path, command: CommandLine) -> None:
    source = corpus(tmp_path / "in.jsonl")
    options = ("--parts", "train=0.5,test=0.5", "--no-near-duplicates")
    said = command("data", "split", source, "-o", tmp_path / "parts", *options, "--label-field", "label")
    assert "32  documents read" in said.out
    assert "1  rejected: not valid JSON" in said.out
    train, test = (tmp_path / "parts" / f"{name}.jsonl" for name in ("train", "test"))
    assert len(lines(train)) + len(lines(test)) == 31
    said = command("data", "check", train, "--against", test, "--json", "--threshold", "1")
    found = json.loads(said.out)
    assert (said.status, found["exact"]) == (0, 0)
    assert found["contaminated"] == found["test_documents"]  # each holds the same sentence
    said = command("data", "check", train, "--against", test, "--fail-above", "0.5")
    assert said.status == 1
    assert "contaminated, above 50.00%" in said.err
    assert "100%" in said.out or "covered" in said.out
    said = command("data", "check", train, "--against", test, "--fail-above", "1")
    assert said.status == 0


def test_stats(tmp_path: Path, command: CommandLine) -> None:
    pytest.importorskip("py3langid")
    pytest.importorskip("matplotlib")
    source = corpus(tmp_path / "in.jsonl")
    trained = command(
        "tokenizer", "train", source, "-o", tmp_path / "tokenizer", "--kind", "char", "--on-bad-row", "skip"
    )
    assert trained.status == 0, trained.err
    options = (
        "--tokenizer",
        tmp_path / "tokenizer",
        "--html",
        tmp_path / "s.html",
        "-o",
        tmp_path / "s.json",
    )
    said = command("data", "stats", source, *options)
    assert said.status == 0, said.err
    assert "languages        en 31" in said.out
    assert "duplicates       1 exact" in said.out
    found = json.loads((tmp_path / "s.json").read_text())
    assert found["tokens"]["total"] == found["characters"]
    assert "<img" in (tmp_path / "s.html").read_text()


def test_changes_and_single_documents_are_told_as_such(tmp_path: Path, command: CommandLine) -> None:
    mails = "Write to a@mill.org or b@mill.org, and then to c@mill.org about the grain."
    (tmp_path / "in.txt").write_text(mails)
    said = command("data", "clean", tmp_path / "in.txt", "-o", tmp_path / "out.txt", "--workers", 1)
    assert (
        "read                 1  document, " in said.out
        and "changed              1  document: e-mail" in said.out
    )


def test_languages_of_few_documents_are_told_together(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    from langmill.cli.data import show_statistics
    from langmill.text.statistics import statistics

    (tmp_path / "a.txt").write_text("word\n" * 1000)
    settings = StatisticsSettings(boundary="line", duplicates="none")
    names = iter(["en"] * 991 + ["fr"] * 5 + ["de"] * 3 + ["it"])
    found = statistics([tmp_path / "a.txt"], settings=settings, language_of=lambda text: next(names))
    show_statistics(found)
    assert "languages        en 991, fr 5, 2 others 4\n" in capsys.readouterr().out
    assert found.languages == {"en": 991, "fr": 5, "de": 3, "it": 1}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("stats", "in.jsonl", "--text-field", "body"), "in.jsonl:1: no field 'body' (found 'text', 'label')"),
        (("split", "in.jsonl", "-o", "p", "--text-field", "body"), "no document to split: in.jsonl:1: no field"),
        (("clean", "in.jsonl", "-o", "o.jsonl", "--text-field", "body"), "to clean: in.jsonl:1: no field 'body'"),
        (("dedup", "in.jsonl", "-o", "out.csv"), "cannot write .csv; expected .jsonl or .txt"),
        (("dedup", "in.jsonl", "-o", "in.jsonl"), "choose another -o"),
        (("dedup", "in.jsonl", "-o", "o.jsonl", "--threshold", "2"), "--threshold: '2' is not allowed"),
        (("dedup", "in.jsonl", "-o", "o.jsonl", "--on-bad-row", "fail"), "in.jsonl:32: not valid JSON"),
        (("clean", "in.jsonl", "-o", "o.jsonl", "--filters", "gofer"), "gopher"),
        (("split", "in.jsonl", "-o", "p", "--parts", "train=2"), "--parts: 'train=2' is not allowed"),
        (("split", "in.jsonl", "-o", "p", "--group-field", "lable"), "did you mean label?"),
        (("split", "in.jsonl", "-o", "p", "--time-field", "a", "--label-field", "b"), "do not go together"),
        (("check", "in.jsonl", "--against", "no.jsonl"), "no.jsonl: no such file"),
        (("stats", "no.jsonl"), "no.jsonl: no such file"),
    ],
)  # fmt: skip
def test_mistakes_are_one_line(
    tmp_path: Path,
    command: CommandLine,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    corpus(tmp_path / "in.jsonl")
    assert message in command("data", *arguments).error
    assert not list(tmp_path.glob(".partial-*"))


def test_habits(command: CommandLine) -> None:
    assert "use: langmill data clean" in command("clean", "x").error
    assert "use: langmill data dedup" in command("dedupe", "x").error


def test_a_mistake_in_a_task_of_datatrove_is_one_line(tmp_path: Path, command: CommandLine) -> None:
    pytest.importorskip("datatrove")
    source, output = corpus(tmp_path / "in.jsonl"), tmp_path / "out.jsonl"
    options = ("--engine", "datatrove", "--tasks", 1, "--on-bad-row", "fail")
    for _ in range(2):  # the second time finds what the first left
        said = command("data", "dedup", source, "-o", output, *options)
        assert "in.jsonl:32: not valid JSON" in said.error
    assert not output.exists()
