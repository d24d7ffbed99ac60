"""`langmill data`: clean a corpus, take duplicates away, split it, check it, describe it. [cli]"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from langmill.cli.data_augment import augment
from langmill.cli.data_words import words
from langmill.cli.options import Command, Group, json_option, overwrite_option, settings_options
from langmill.core.config import Settings
from langmill.text.cleaning import CleanSettings
from langmill.text.documents import plural
from langmill.text.settings import CheckSettings, PipelineSettings, SplitSettings, StatisticsSettings

if TYPE_CHECKING:
    from langmill.text.leakage import LeakageReport
    from langmill.text.pipeline import CleaningReport
    from langmill.text.statistics import CorpusStatistics
    from langmill.text.steps import Step

LEAKS_SHOWN = 10
RARE_SHARE = 0.005
"""Languages of fewer documents are counted together where people read the figures."""


class CleanCommandSettings(PipelineSettings, CleanSettings):
    """All that `clean` is told."""


@click.group(cls=Group)
def data() -> None:
    """Make a corpus that you can trust: clean, split, check and describe it; its words; more rows of it."""


data.add_command(words)
data.add_command(augment)


output_option = click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path),
    help="File to write: .jsonl or .txt, .gz or .zst.",
)
engine_option = click.option(
    "--engine",
    type=click.Choice(["local", "datatrove"]),
    default="local",
    show_default=True,
    help="Who runs the work: a pool of processes here, or datatrove in tasks that an interrupted run need not repeat.",
)
tasks_option = click.option(
    "--tasks", type=click.IntRange(min=1), default=8, show_default=True, help="Tasks of datatrove."
)
config_option = click.option("--config", default=None, help="A YAML file of settings; options override it.")


def pass_options(kind: type[Settings]) -> Callable[[Command], Command]:
    """Add what a pass over a corpus is told: paths, output, who does the work, and the settings of `kind`."""

    def decorate(command: Command) -> Command:
        command = settings_options(kind)(command)
        for add in (
            json_option,
            tasks_option,
            engine_option,
            config_option,
            overwrite_option,
            output_option,
        ):
            command = add(command)
        return click.argument("paths", nargs=-1, required=True)(command)

    return decorate


@data.command()
@pass_options(CleanCommandSettings)
def clean(
    paths: Sequence[str],
    output: Path,
    overwrite: bool,
    config: str | None,
    engine: str,
    tasks: int,
    as_json: bool,
    overrides: dict[str, Any],
) -> None:
    """Write the documents of PATHS cleaned, without bad ones and duplicates; these go to OUTPUT.rejects.jsonl.

    \b
    langmill data clean corpus/ -o clean.jsonl.zst
    langmill data clean web.jsonl -o clean.jsonl --filters basic,gopher --languages zh,en
    """
    from langmill.text.cleaning import build_steps

    given = resolved(CleanCommandSettings, config, overrides)
    settings = PipelineSettings.model_validate(given.model_dump(include=set(PipelineSettings.model_fields)))
    steps = CleanSettings.model_validate(given.model_dump(include=set(CleanSettings.model_fields)))
    run(
        paths,
        output,
        overwrite,
        engine,
        tasks,
        partial(build_steps, steps),
        settings,
        steps.model_dump(mode="json"),
        as_json,
    )


@data.command()
@pass_options(PipelineSettings)
def dedup(
    paths: Sequence[str],
    output: Path,
    overwrite: bool,
    config: str | None,
    engine: str,
    tasks: int,
    as_json: bool,
    overrides: dict[str, Any],
) -> None:
    """Write the documents of PATHS without duplicates, otherwise as they are; these go to OUTPUT.rejects.jsonl."""
    from langmill.text.sifting import no_steps

    settings = resolved(PipelineSettings, config, overrides)
    run(paths, output, overwrite, engine, tasks, no_steps, settings, {}, as_json)


def resolved(kind: type[Any], config: str | None, overrides: dict[str, Any]) -> Any:
    """Return settings: defaults < YAML file < options."""
    from langmill.core.config import merge, nest, read_yaml, resolve

    tree: dict[str, Any] = {}
    if config:
        tree = read_yaml(config)
        resolve(kind, tree, source=config)
    return resolve(kind, merge(tree, nest(overrides)))


def run(
    paths: Sequence[str],
    output: Path,
    overwrite: bool,
    engine: str,
    tasks: int,
    make_steps: Callable[[], Sequence[Step]],
    settings: PipelineSettings,
    described: dict[str, Any],
    as_json: bool,
) -> None:
    """Clean with the engine that is asked for, and print what became of the corpus."""
    from langmill.text import pipeline

    work: Callable[..., CleaningReport] = pipeline.clean
    if engine == "datatrove":
        from langmill.text.cluster import clean_in_tasks

        work = partial(clean_in_tasks, tasks=tasks)
    report = work(
        paths, output, make_steps=make_steps, settings=settings, described=described, overwrite=overwrite
    )
    if as_json:
        print_json(dataclasses.asdict(report))
    else:
        show_cleaning(report)


def noun(count: int) -> str:
    """Return what stands behind a count of documents."""
    return "document" if count == 1 else "documents"


def show_cleaning(report: CleaningReport) -> None:
    """Print what became of a corpus."""
    for verb, count, characters, where in (
        ("read", report.read, report.characters_in, ""),
        ("kept", report.kept, report.characters_out, f" → {report.output}"),
    ):
        click.echo(f"{verb:<10}{count:>12,}  {noun(count)}, {plural(characters, 'character')}{where}")
    for reason, count in report.rejected.items():
        example = report.examples[reason]
        like = f", like {example.duplicate_of}" if example.duplicate_of else ""
        text = " ".join(example.text.split())[:60]
        click.echo(f"rejected  {count:>12,}  {reason} (first: {example.source}{like}: {text})")
    for name, count in report.changes.items():
        click.echo(f"changed   {count:>12,}  {noun(count)}: {name}")
    for name, count in report.ignored.items():
        click.echo(f"not read  {count:>12,}  files: {name}")
    click.echo(f"rejects → {report.rejects}; {report.seconds:.1f} s", err=True)


@data.command()
@click.argument("paths", nargs=-1, required=True)
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path),
    help="Folder for NAME.jsonl of each part.",
)
@overwrite_option
@json_option
@settings_options(SplitSettings)
def split(
    paths: Sequence[str], output: Path, overwrite: bool, as_json: bool, overrides: dict[str, Any]
) -> None:
    """Deal the documents of PATHS out to parts such as train, dev and test.

    By lot (the same for the same seed), by --group-field, by --time-field, or alike for every --label-field.
    Equal documents and near-duplicates stay in one part.
    """
    from langmill.text import splitting

    settings = resolved(SplitSettings, None, overrides)
    report = splitting.split(paths, output, settings=settings, overwrite=overwrite)
    if as_json:
        print_json(dataclasses.asdict(report))
        return
    click.echo(f"{report.read:>12,}  {noun(report.read)} read, {report.units:,} that may be apart")
    for name, part in report.parts.items():
        labels = ", ".join(f"{label} {count:,}" for label, count in sorted(part.labels.items()))
        told = f" ({labels})" if labels else ""
        click.echo(f"{part.documents:>12,}  {name}, {plural(part.characters, 'character')}{told}")
    for reason, count in report.rejected.items():
        click.echo(f"{count:>12,}  rejected: {reason}")


@data.command()
@click.argument("train", nargs=-1, required=True, metavar="TRAIN…")
@click.option(
    "--against", multiple=True, required=True, help="The test files, folders or globs. (repeatable)"
)
@click.option(
    "--fail-above",
    type=click.FloatRange(0, 1),
    default=None,
    help="Exit with status 1 if a larger share of the test documents is contaminated.",
)
@json_option
@settings_options(CheckSettings)
def check(
    train: Sequence[str],
    against: Sequence[str],
    fail_above: float | None,
    as_json: bool,
    overrides: dict[str, Any],
) -> None:
    """Look for test documents in the training text TRAIN: shared n-grams, equal and near-duplicate documents.

    langmill data check train.jsonl --against test.jsonl --fail-above 0
    """
    from langmill.text import leakage

    report = leakage.check(train, against, settings=resolved(CheckSettings, None, overrides))
    if as_json:
        print_json({**dataclasses.asdict(report), "share": report.share})
    else:
        show_leakage(report)
    if fail_above is not None and report.share > fail_above:
        click.echo(
            f"{report.share:.2%} of the test documents are contaminated, above {fail_above:.2%}", err=True
        )
        sys.exit(1)


def show_leakage(report: LeakageReport) -> None:
    """Print how far the test documents are in the training text, and the worst of them."""
    click.echo(f"training documents  {report.train_documents:>10,}")
    click.echo(f"test documents      {report.test_documents:>10,}")
    for name, count in (
        ("contaminated", report.contaminated),
        ("exact duplicates", report.exact),
        ("near-duplicates", report.near),
        ("share an n-gram", report.touched),
        ("too short for one", report.too_short),
    ):
        click.echo(f"  {name:<18}{count:>10,}  {count / report.test_documents:7.2%}")
    click.echo(f"test tokens covered {report.covered:>18.2%}")
    for reason, count in report.rejected.items():
        click.echo(f"not read            {count:>10,}  {reason}")
    for leak in report.leaks[:LEAKS_SHOWN]:
        where = f"equals {leak.exact}" if leak.exact else ""
        if leak.near and not leak.exact:
            where = f"{leak.similarity:.0%} like {leak.near}"
        click.echo(
            f"{leak.source}: {leak.covered:.0%} covered{', ' if where else ''}{where}: {leak.excerpt[:70]}"
        )


@data.command()
@click.argument("paths", nargs=-1, required=True)
@click.option(
    "--tokenizer", default=None, metavar="CKPT", help="Count the tokens of this checkpoint or tokenizer too."
)
@click.option(
    "--html", type=click.Path(path_type=Path), default=None, help="Write a page with pictures to this file."
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    default=None,
    help="Write all figures as JSON to this file.",
)
@overwrite_option
@json_option
@settings_options(StatisticsSettings)
def stats(
    paths: Sequence[str],
    tokenizer: str | None,
    html: Path | None,
    output: Path | None,
    overwrite: bool,
    as_json: bool,
    overrides: dict[str, Any],
) -> None:
    """Measure the documents of PATHS: lengths, scripts, languages, vocabulary, tokens, duplicates."""
    from langmill.core.files import write_json
    from langmill.text.paths import check_outputs
    from langmill.text.statistics import statistics

    check_outputs([file for file in (output, html) if file], read=paths, overwrite=overwrite)
    found = statistics(
        paths,
        settings=resolved(StatisticsSettings, None, overrides),
        language_of=language_guesser(),
        count_tokens=token_counter(tokenizer) if tokenizer else None,
    )
    tree = dataclasses.asdict(found)
    if output:
        write_json(output, tree)
    if html:
        from langmill.text.statistics_page import write_page

        write_page(found, html, title=", ".join(paths))
    if as_json:
        print_json(tree)
    else:
        show_statistics(found)


def language_guesser() -> Callable[[str], str]:
    """Return a function that names a text's language."""
    from langmill.text.language import identify

    return identify


def token_counter(checkpoint: str) -> Callable[[Sequence[str]], list[int]]:
    """Return a function that counts the tokens of texts."""
    from langmill.tokens.tokenizer import Tokenizer

    opened = Tokenizer.load(checkpoint)
    return lambda texts: [len(opened.encode(text)) for text in texts]


def show_statistics(found: CorpusStatistics) -> None:
    """Print the most telling figures."""
    click.echo(f"documents        {found.documents:>14,}")
    for name in ("characters", "words", "lines"):
        lengths = found.lengths[name].quantiles
        spread = (
            f"median {lengths['0.5']:,}, 5 to 95 %: {lengths['0.05']:,} to {lengths['0.95']:,} a document"
        )
        click.echo(f"{name:<17}{getattr(found, name):>14,}  {spread}")
    if found.tokens:
        per = f"{found.tokens.per_word:.3f} a word, {found.tokens.per_character:.3f} a character"
        click.echo(f"tokens           {found.tokens.total:>14,}  {per}")
    partial = "at least, " if found.vocabulary_is_partial else ""
    click.echo(f"different words  {found.vocabulary:>14,}  {partial}{found.once:,} of them once")
    click.echo(f"Heaps' law       V = {found.heaps[0]:.3g} n^{found.heaps[1]:.3f}")
    click.echo(f"Zipf's law       f = {found.zipf[0]:.3g} r^-{found.zipf[1]:.3f}")
    click.echo(
        "scripts          " + ", ".join(f"{name} {share:.1%}" for name, share in found.scripts.items())
    )
    rare = {name for name, count in found.languages.items() if count < RARE_SHARE * found.documents}
    shown = [f"{name} {count:,}" for name, count in found.languages.items() if name not in rare]
    if rare:
        others = sum(found.languages[name] for name in rare)
        shown.append(f"{plural(len(rare), 'other')} {others:,}")
    click.echo("languages        " + ", ".join(shown))
    click.echo(f"duplicates       {found.exact_duplicates:,} exact, {found.near_duplicates:,} near")
    for reason, count in found.rejected.items():
        click.echo(f"not read         {count:>14,}  {reason}")


def print_json(tree: dict[str, Any]) -> None:
    """Print one JSON object."""
    click.echo(json.dumps(tree, ensure_ascii=False, indent=2))
