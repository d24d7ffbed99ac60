"""How a text and its label become a prompt for a language model. [evaluation]"""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from langmill.core.errors import ConfigError, DataError, did_you_mean

FIELDS = ("text", "pair", "label")
"""What a template may have between braces."""
BETWEEN = "\n\n"
"""Between the examples of a prompt, as in lm-evaluation-harness."""


@dataclass(frozen=True)
class Prompt:
    """A template, and how it spells labels."""

    template: str
    """Ends with {label}."""
    words: Mapping[str, str] = field(default_factory=dict)
    """By label, in lower case; a label that has none is spelled as it is."""

    def before(self, text: str, pair: str = "") -> str:
        """Return what stands before the label.

        >>> Prompt("Review: {text}\\nSentiment: {label}").before("{great}")
        'Review: {great}\\nSentiment: '
        """
        return self.template.format(text=text, pair=pair, label="")


PROMPTS: dict[str, dict[str, Prompt]] = {
    "sentiment": {
        "en": Prompt(
            "Review: {text}\nSentiment: {label}",
            {"pos": "positive", "neg": "negative", "positive": "positive", "negative": "negative"},
        ),
        "zh": Prompt(
            "评论：{text}\n情感：{label}",
            {"pos": "正面", "neg": "负面", "positive": "正面", "negative": "负面", "neutral": "中性"},
        ),
    },
    "topic": {
        "en": Prompt("Article: {text}\nTopic: {label}", {"sci/tech": "Technology"}),
        "zh": Prompt(
            "新闻：{text}\n类别：{label}",
            {
                **{"sports": "体育", "finance": "财经", "stocks": "股票", "realty": "房产", "game": "游戏"},
                **{"education": "教育", "politics": "时政", "society": "社会", "entertainment": "娱乐"},
                **{"science": "科技", "technology": "科技", "world": "国际", "business": "商业"},
            },
        ),
    },
    "spam": {
        "en": Prompt("Message: {text}\nType: {label}", {"spam": "spam", "ham": "normal"}),
        "zh": Prompt("短信：{text}\n类型：{label}", {"spam": "垃圾短信", "ham": "正常短信"}),
    },
    "generic": {
        "en": Prompt("Text: {text}\nLabel: {label}"),
        "zh": Prompt("文本：{text}\n标签：{label}"),
    },
    "pair": {
        "en": Prompt("First: {text}\nSecond: {pair}\nLabel: {label}"),
        "zh": Prompt("甲：{text}\n乙：{pair}\n标签：{label}"),
    },
}
"""By task and language. A task is told by its labels: all of them have words in one of its languages."""


def choose_prompt(template: str, labels: Sequence[str], *, chinese: bool, pairs: bool) -> Prompt:
    """Return the prompt of a name, a template of the user's, or what suits the labels where nothing is given.

    Raises ConfigError for a name that is none, and for a template that cannot be used.

    >>> choose_prompt("", ["neg", "pos"], chinese=False, pairs=False).template
    'Review: {text}\\nSentiment: {label}'
    """
    language = "zh" if chinese else "en"
    if "{" in template:
        return Prompt(checked_template(template, pairs=pairs))
    if template:
        if template not in PROMPTS:
            raise ConfigError(
                f"--template {template!r} is neither a template, with {{text}} and {{label}}, nor one of"
                f" {', '.join(PROMPTS)}{did_you_mean(template, PROMPTS)}"
            )
        return PROMPTS[template][language]
    known = {
        name: {label for prompt in prompts.values() for label in prompt.words}
        for name, prompts in PROMPTS.items()
    }
    name = next((name for name, words in known.items() if {label.lower() for label in labels} <= words), "")
    return PROMPTS["pair" if pairs else name or "generic"][language]


def checked_template(template: str, *, pairs: bool) -> str:
    r"""Return a template as the command line gives it, in which \n stands for a new line."""
    template = template.replace("\\n", "\n").replace("\\t", "\t")
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError as error:
        raise ConfigError(
            f"--template {template!r}: {error}; write {{{{ and }}}} for braces that are meant"
        ) from error
    names = [name for _, name, _, _ in parts if name is not None]
    for name in names:
        if name not in FIELDS:
            raise ConfigError(
                f"--template {template!r}: {{{name}}} is none of {{text}}, {{pair}} and {{label}}"
                f"{did_you_mean(name, FIELDS)}"
            )
    needed = ("text", "pair", "label") if pairs else ("text", "label")
    if missing := [name for name in needed if name not in names]:
        raise ConfigError(f"--template {template!r} has no {{{missing[0]}}}")
    if "pair" in names and not pairs:
        raise ConfigError(f"--template {template!r} has {{pair}}, but the rows have one text each")
    if names.count("label") != 1 or not template.endswith("{label}"):
        raise ConfigError(f"--template {template!r} must end with {{label}}, and have it once")
    return template


def read_label_words(text: str) -> dict[str, str]:
    """Return how labels are spelled, from the command line.

    >>> read_label_words("negative=bad, positive=good")
    {'negative': 'bad', 'positive': 'good'}
    """
    words: dict[str, str] = {}
    for part in text.split(",") if text else ():
        label, sign, word = (piece.strip() for piece in part.partition("="))
        if not (label and sign and word):
            raise ConfigError(
                f"--label-words: {part.strip()!r} is no label with its word; write negative=bad,positive=good"
            )
        if label in words:
            raise ConfigError(f"--label-words names {label!r} twice")
        words[label] = word
    return words


def spell_labels(labels: Sequence[str], prompt: Prompt, given: Mapping[str, str]) -> list[str]:
    """Return the word of each label: those given, all of them where there are any, else the prompt's, else itself.

    Raises ConfigError where a word is missing, DataError where two labels have the same.
    """
    if given and (missing := [label for label in labels if label not in given]):
        raise ConfigError(
            f"--label-words has no word for {missing[0]!r}; the labels are {', '.join(labels)}"
            f"{did_you_mean(missing[0], given)}"
        )
    words = [given.get(label) or prompt.words.get(label.lower(), label) for label in labels]
    for label, word in zip(labels, words):
        if words.count(word) > 1:
            raise DataError(
                f"the label {label!r} and another are both spelled {word!r}; tell them apart with --label-words"
            )
    return words
