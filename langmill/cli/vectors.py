"""`langmill vectors`: word vectors. [cli]"""

from __future__ import annotations

import click

from langmill.cli import vectors_query


@click.group()
def vectors() -> None:
    """Train word vectors, and ask them."""


for command in ("similar", "analogy", "odd", "distance", "evaluate", "picture", "convert"):
    vectors.add_command(getattr(vectors_query, command))
