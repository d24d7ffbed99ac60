"""Tasks: each says what an example is, what is learned from it, and how answers are read and scored. [tasks]"""

from __future__ import annotations

from langmill.core.errors import ConfigError, did_you_mean
from langmill.tasks.base import Task


def find_task(name: str) -> Task:
    """Return the task called `name`, or raise ConfigError naming those that exist."""
    from langmill.tasks.lm import LanguageModelling

    tasks: dict[str, Task] = {task.name: task for task in (LanguageModelling(),)}
    if name not in tasks:
        raise ConfigError(f"unknown task {name!r}; tasks: {', '.join(tasks)}{did_you_mean(name, tasks)}")
    return tasks[name]
