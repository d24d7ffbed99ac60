"""Tasks: each says what an example is, what is learned from it, and how answers are read and scored. [tasks]"""

from __future__ import annotations

from typing import Any

from langmill.core.errors import ConfigError, did_you_mean
from langmill.tasks.base import Task

HEADS = {"text": "classify", "tokens": "ner", "span": "qa"}
"""The task of each kind of head."""


def task_of(model: Any) -> str:
    """Return the name of the task that a model is made for, as far as its architecture tells."""
    if (head := getattr(model.config, "head", None)) is not None:
        return HEADS[head.kind]
    if not (model.config.has_output or (model.config.encoder is None and model.config.decoder is None)):
        return "embed"
    if model.config.encoder is None:
        return "lm"
    return "mlm" if model.config.decoder is None else "denoise"


def find_task(name: str) -> Task:
    """Return the task called `name`, or raise ConfigError naming those that exist."""
    from langmill.tasks.classify import Classifying
    from langmill.tasks.denoise import Denoising
    from langmill.tasks.embed import Embedding
    from langmill.tasks.lm import LanguageModelling
    from langmill.tasks.mlm import MaskedLanguageModelling
    from langmill.tasks.ner import Tagging
    from langmill.tasks.qa import QuestionAnswering

    known = (
        LanguageModelling(),
        MaskedLanguageModelling(),
        Denoising(),
        Classifying(),
        Tagging(),
        QuestionAnswering(),
        Embedding(),
    )
    tasks: dict[str, Task] = {task.name: task for task in known}
    if name not in tasks:
        raise ConfigError(f"unknown task {name!r}; tasks: {', '.join(tasks)}{did_you_mean(name, tasks)}")
    return tasks[name]
