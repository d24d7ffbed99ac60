"""Tasks: each says what an example is, what is learned from it, and how answers are read and scored. [tasks]"""

from __future__ import annotations

from typing import Any

from langmill.core.errors import ConfigError, did_you_mean
from langmill.models.protocol import Layerless
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


def task_for(model: Any, asked: str = "", *, source: str = "this checkpoint") -> Task:
    """Return the task that a model is made for, or the one asked; raise ConfigError where it can not do that.

    Besides what it is made for, a network that is an encoder or a decoder gives vectors of texts. source: the checkpoint's name.
    """
    made_for = task_of(model)
    task = find_task(asked or made_for)
    config = model.config
    embeds = (config.encoder is None) != (config.decoder is None) and not isinstance(config, Layerless)
    if task.name != made_for and not (task.name == "embed" and embeds):
        raise ConfigError(
            f"{source} is made for {made_for}, not for {asked}; leave --task out, or take a checkpoint that"
            f" `langmill train {asked}` made"
        )
    return task


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
