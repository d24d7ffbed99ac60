"""`langmill data augment`: more rows of a task's data, made from those that there are. [tasks]"""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from langmill.core.errors import CheckpointError, ConfigError, DataError, did_you_mean
from langmill.tasks.augmented_files import beside, is_marked, writer_of
from langmill.tasks.augmented_rows import Example, Reading, check_task, read_examples
from langmill.text.augment import (
    Changes,
    Delete,
    Insert,
    Operation,
    Passage,
    Place,
    Replace,
    Suggest,
    Swap,
    variants,
)
from langmill.text.augment_settings import OPERATIONS, AugmentSettings
from langmill.text.documents import ReadReport
from langmill.text.paths import kind_of, split_ending
from langmill.text.segmentation import HAN, dictionary_segmenter
from langmill.text.words import sentences

if TYPE_CHECKING:
    from langmill.checkpoint import Checkpoint
    from langmill.tokens.tokenizer import Tokenizer

ROWS_AT_A_TIME = 64
NEIGHBOURS = 10
MOST_MASKS = 4
"""A word of more tokens than this is not replaced by a masked model."""
SPARE_TOKENS = 16
"""A translation has at most twice the tokens of its original and these; what is longer goes round in circles."""
WINDOW_CHARACTERS = 600
"""What a masked model sees on either side of a word, at most."""


@dataclass
class AugmentReport:
    """What became of a file."""

    output: str
    read: int = 0
    written: int = 0
    augmented: Counter[str] = field(default_factory=Counter)
    """Operation → new rows."""
    short: int = 0
    """New rows that were asked for and could not be made: nothing new came of any operation."""
    skipped: Counter[str] = field(default_factory=Counter)
    """Reason → rows that could not be read."""
    marks: str = ""
    """The file that names the operations, where rows have no room for it."""


def augment(task: str, path: Path | str, output: Path | str, settings: AugmentSettings) -> AugmentReport:
    """Write the rows of a file, each with new ones behind it, in the same format; return what was done.

    Raises ConfigError for an unknown task or operation, or one that lacks what it needs; DataError with
    file:line for a row that is not as the task has it.
    """
    path, output = Path(path), Path(output)
    check_task(task)
    check_output(path, output)
    operations = make_operations(task, settings)
    reading = Reading(
        settings.text_field,
        settings.label_field,
        settings.on_bad_row,
        dictionary_segmenter(settings.dictionary) if settings.dictionary else None,
    )
    report, read = AugmentReport(str(output)), ReadReport()
    report.marks = str(beside(output)) if is_marked(task, output) else ""
    examples = read_examples(task, path, reading, read)
    with contextlib.ExitStack() as stack:
        write = stack.enter_context(writer_of(task, output))
        while chunk := list(itertools.islice(examples, ROWS_AT_A_TIME)):
            for example, found in zip(chunk, augmented(chunk, operations, settings), strict=True):
                report.read += 1
                report.short += settings.per_row - len(found)
                if not settings.only_new:
                    write(example.original, "", example.source)
                for name, value in found:
                    report.augmented[name] += 1
                    write(value, name, example.source)
        report.written = report.augmented.total() + (0 if settings.only_new else report.read)
        if not report.written:
            raise DataError(f"{path}: there is nothing to write: {read}")
    report.skipped = read.skipped
    return report


def augmented(
    chunk: Sequence[Example], operations: Sequence[Operation], settings: AugmentSettings
) -> list[list[tuple[str, Any]]]:
    """Return the new rows of each example, as (operation, what is written)."""

    def written(index: int, result: Changes | str, name: str) -> str:
        return chunk[index].change(result, name)[0]

    found = variants(
        [each.passage for each in chunk], operations, written, per_row=settings.per_row, seed=settings.seed
    )
    return [
        [(name, example.change(result, name)[1]) for name, result in results]
        for example, results in zip(chunk, found, strict=True)
    ]


def check_output(path: Path, output: Path) -> None:
    """Raise ConfigError where the output has not the format of the input, or is the input."""
    ours, theirs = split_ending(output)[0], split_ending(path)[0]
    if ours != theirs and not (ours == ".jsonl" and kind_of(path) not in ("text", "json")):
        raise ConfigError(
            f"{output}: rows of {theirs or path} are written in the same format; name it …{theirs}"
        )
    if output.exists() and path.exists() and output.samefile(path):
        raise ConfigError(f"{output}: is the input itself; name another file")


def make_operations(task: str, settings: AugmentSettings) -> list[Operation]:
    """Return the operations that are asked for, or all for which there is what they need."""
    return [MAKERS[name](settings) for name in operation_names(task, settings)]


def operation_names(
    task: str, settings: AugmentSettings, *, prefix: str = "--", without: Sequence[str] = ()
) -> list[str]:
    """Return the names of the operations that are asked for, or all for which there is what they need.

    prefix: with which the command line spells the settings. without: operations that are not to be had here.
    """
    given = {
        "insert": bool(settings.vectors),
        "synonym": bool(settings.vectors),
        "contextual": bool(settings.model),
        "translate": bool(settings.translate_to and settings.translate_back),
    }
    names = [name.strip() for name in settings.operations.split(",") if name.strip()]
    if bool(settings.translate_to) != bool(settings.translate_back):
        raise ConfigError("--translate-to and --translate-back go together: there and back again")
    for name in names:
        if name not in OPERATIONS:
            known = [each for each in OPERATIONS if each not in without]
            raise ConfigError(
                f"unknown operation {name!r}; operations: {', '.join(known)}{did_you_mean(name, known)}"
            )
        if not given.get(name, True):
            raise ConfigError(f"operation {name} needs {OPERATIONS[name].replace('--', prefix)}")
    names = names or [name for name in OPERATIONS if given.get(name, True)]
    if "translate" in names and task in ("ner", "qa"):
        raise ConfigError(
            f"translate writes a text anew, and the spans of {task} would be lost; take other operations"
        )
    return list(dict.fromkeys(names))


def synonyms(path: str, floor: float) -> Suggest:
    """Return a function that suggests the nearest words by their vectors, if they are near enough."""
    from langmill.vectors.formats import read_vectors
    from langmill.vectors.query import most_similar

    vectors = read_vectors(path)

    @functools.cache
    def near(word: str) -> list[tuple[str, float]]:
        known = word if word in vectors.index else word.lower()
        if known not in vectors.index:
            return []
        found = most_similar(vectors, [known], top=NEIGHBOURS)
        return [(other, score) for other, score in found if score >= floor]

    return lambda places: [near(place.word) for place in places]


def fillings(folder: str) -> Suggest:
    """Return a function that suggests what a masked language model puts in a word's place."""
    from langmill.tasks import find_task, task_of

    checkpoint = opened(folder)
    if task_of(checkpoint.model) != "mlm":
        raise ConfigError(
            f"--model {folder}: is no masked language model; make one with `langmill train mlm`"
        )
    predict = find_task("mlm").predict

    def suggest(places: Sequence[Place]) -> list[list[tuple[str, float]]]:
        texts = [masked(checkpoint, place) for place in places]
        filled = iter(predict(checkpoint, [text for text in texts if text]))
        return [
            words_of(checkpoint, place, next(filled)) if text else []
            for place, text in zip(places, texts, strict=True)
        ]

    return suggest


def opened(folder: str) -> Checkpoint:
    """Return a checkpoint that has a tokenizer."""
    from langmill.checkpoint import load_checkpoint

    checkpoint = load_checkpoint(folder)
    if checkpoint.tokenizer is None:
        raise CheckpointError(f"{folder}: has no tokenizer.json, without which text cannot be read")
    return checkpoint


def masked(checkpoint: Checkpoint, place: Place) -> str:
    """Return a text with a word hidden, as much around it as the model reads; empty: the word is too long.

    A Chinese word is hidden token by token, another one by one mask, which only a whole word may fill: several
    masks in a row, each filled without regard to the others, make no words.
    """
    tokenizer = checkpoint.tokenizer
    assert tokenizer is not None
    masks = len(tokenizer.encode(place.word)) if HAN.match(place.word) else 1
    window, most = WINDOW_CHARACTERS, checkpoint.model.config.output_stack.max_positions
    while masks <= MOST_MASKS and window:
        text = f"{place.before[-window:]}{'[MASK]' * masks}{place.after[:window]}"
        if len(tokenizer.encode(text, special=True)) <= most:
            return text
        window //= 2
    return ""


def words_of(checkpoint: Checkpoint, place: Place, filling: Any) -> list[tuple[str, float]]:
    """Return the words that a filling makes: each likely first token with the likeliest others behind it."""
    tokenizer = checkpoint.tokenizer
    assert tokenizer is not None
    first, *others = filling.masks
    rest = [candidates[0].id for candidates in others]
    if HAN.match(place.word):
        return [(tokenizer.decode([each.id, *rest]).strip(), each.probability) for each in first]
    spaced = place.before[-1:].isspace()
    return [
        (each.token.strip(), each.probability)
        for each in first
        if len(each.token.strip()) > 1 and begins_word(tokenizer, each.id, spaced=spaced)
    ]


def begins_word(tokenizer: Tokenizer, number: int, *, spaced: bool) -> bool:
    """Say whether a token begins a word, as far as its tokenizer tells. spaced: white space stands before it."""
    token = tokenizer.token(number)
    if tokenizer.kind == "unigram":
        return token.startswith("▁")
    if tokenizer.kind == "bpe" and spaced:
        return tokenizer.piece(number).startswith(b" ")
    return not token.startswith("##")


@dataclass(frozen=True)
class BackTranslation:
    """Translate there and back, sentence by sentence (Sennrich et al. 2016, arXiv:1511.06709)."""

    there: Callable[[list[str]], list[str]]
    back: Callable[[list[str]], list[str]]
    name: str = "translate"

    def __call__(self, passages: Sequence[Passage], draws: Sequence[Random]) -> list[Changes | str]:
        """Return the texts; white space around sentences stays, and so does what is protected at the beginning."""
        cut = [sentences(each.text[each.protected[0][1] if each.protected else 0 :]) for each in passages]
        wanted = sorted({sentence.strip() for parts in cut for sentence in parts if sentence.strip()})
        found = dict(zip(wanted, self.back(self.there(wanted)), strict=True))
        return [
            "".join(part.replace(part.strip(), found.get(part.strip(), ""), 1) for part in parts)
            for parts in cut
        ]


def translator(folder: str, prefix: str) -> Callable[[list[str]], list[str]]:
    """Return a function that translates with an encoder-decoder, taking the likeliest text."""
    from langmill.generation.generate import generate
    from langmill.generation.rules import token_rules
    from langmill.generation.settings import sampling_settings

    checkpoint = opened(folder)
    config, tokenizer = checkpoint.model.config, checkpoint.tokenizer
    if config.encoder is None or config.decoder is None:
        raise ConfigError(
            f"{folder}: is no translation model (an encoder-decoder such as T5, BART or Marian)"
        )
    assert tokenizer is not None
    rules = token_rules(tokenizer.eos_id, checkpoint.config, checkpoint.generation)

    def translate(texts: list[str]) -> list[str]:
        prompts = [prefix + text for text in texts]
        longest = max((len(tokenizer.encode(prompt)) for prompt in prompts), default=0)
        wanted = {"temperature": 0.0, "max_tokens": 2 * longest + SPARE_TOKENS}
        settings = sampling_settings(checkpoint.generation, wanted)
        found = generate(checkpoint.model, tokenizer, prompts, settings, rules=rules)
        return [each.text.strip() for each in found]

    return translate


MAKERS: dict[str, Callable[[AugmentSettings], Operation]] = {
    "swap": lambda settings: Swap(settings.share),
    "delete": lambda settings: Delete(settings.share),
    "insert": lambda settings: Insert(settings.share, synonyms(settings.vectors, settings.similarity)),
    "synonym": lambda settings: Replace(
        settings.share, synonyms(settings.vectors, settings.similarity), "synonym"
    ),
    "contextual": lambda settings: Replace(settings.share, fillings(settings.model), "contextual"),
    "translate": lambda settings: BackTranslation(
        translator(settings.translate_to, settings.to_prefix),
        translator(settings.translate_back, settings.back_prefix),
    ),
}
