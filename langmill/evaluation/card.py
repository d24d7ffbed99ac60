"""The model card of a run: README.md in its folder. [evaluation]"""

from __future__ import annotations

import platform
import shlex
import sys
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from langmill.core.files import atomic_write
from langmill.core.log import format_count, format_seconds
from langmill.models.families.ngram import NGRAM
from langmill.models.families.recurrent import RECURRENT
from langmill.tasks.base import Use
from langmill.training.budget import Plan
from langmill.training.fit import FitPlan
from langmill.training.job import Outcome
from langmill.version import __version__


def write_card(
    folder: Path,
    *,
    task: str,
    use: Use,
    data: Sequence[str],
    plan: Plan | FitPlan,
    outcome: Outcome,
    facts: dict[str, Any],
) -> None:
    """Write the card: what was trained on what, how well, for how long, and how to do it again."""
    settings = plan.settings
    state = f"stopped early by {outcome.interrupted}" if outcome.interrupted else "complete"
    rows = "\n".join(f"| {name} | {value:.4f} |" for name, value in outcome.metrics.items())
    base, adapter = settings.from_checkpoint, settings.adapter
    started_from = f"fine-tuned from `{base}`" if base else "from scratch"
    library, opens = "library_name: transformers", "The folder opens in Transformers too"
    if isinstance(plan, Plan) and adapter.rank:
        started_from = f"as a {adapter.kind} adapter of rank {adapter.rank} ({format_count(plan.trained)} weights) on `{base}`"
        library = f"library_name: peft\nbase_model: {base}"
        opens = "It is an adapter without its base; with PEFT installed it opens in Transformers too"
    opens += f": `{use.transformers_class}.from_pretrained({str(folder)!r})`."
    if facts["family"] in (RECURRENT.name, NGRAM.name):
        library = "library_name: langmill"
        kind = "recurrent networks" if facts["family"] == RECURRENT.name else "n-gram models"
        opens = f"Transformers has no class for {kind}: the folder opens in langmill alone."
    what, work = (
        describe_fit(plan, outcome, facts) if isinstance(plan, FitPlan) else describe(plan, use, outcome)
    )
    next_steps = ", ".join(
        f"`langmill {command.format(shlex.quote(str(folder)))}`" for command in use.commands
    )
    atomic_write(
        folder / "README.md",
        f"""---
{library}
pipeline_tag: {use.pipeline}
tags: [langmill, {task}]
---

# {folder.name}

{what}, vocabulary {facts["vocabulary"]}), trained {started_from} by langmill {__version__}. The run is {state}.

| held-out metric | value |
|---|---|
{rows or "| none yet | |"}

The metrics are of a quick evaluation on {facts["rows"]}. Next: {next_steps}.

## Data

- Trained on {", ".join(f"`{path}`" for path in data)}: {format_count(facts["train_bytes"])}B of text, \
{format_count(facts["train_tokens"])} tokens.
- {facts["split"]} The split is by digest or by position, so no held-out document was trained on; near-duplicates \
are not searched for.
- Fingerprint of the sources: `{facts["corpus"]}`.
{"".join(f"- {sentence}{chr(10)}" for sentence in facts.get("notes", ()))}
## Training

{work}

To do it again: `{shlex.join(["langmill", *sys.argv[1:]])}`. Every setting is in `run.yaml`; every logged number in \
`metrics.jsonl`. Written {datetime.now(timezone.utc):%Y-%m-%d}.

## Use

```python
import langmill
model = langmill.load({str(folder)!r})
print({use.python})
```

{opens}
""",
    )


def describe(plan: Plan, use: Use, outcome: Outcome) -> tuple[str, str]:
    """Return what a model is, up to its vocabulary, and how it was trained."""
    settings, model = plan.settings, plan.settings.model
    what = f"A {model.family} {use.kind} of {format_count(plan.parameters)} parameters ({plan.sizes}"
    operations = settings.augment.operations
    varied = f"Texts were read as they are and changed by turns ({operations}).\n" if operations else ""
    work = f"""{varied}{outcome.steps} steps of {settings.batch} × {plan.row_length} tokens, {format_count(outcome.tokens)} \
tokens in all, {format_seconds(outcome.seconds)}, about {format_count(outcome.tokens * plan.flops_per_token)} \
floating-point operations, on {platform.machine()} ({settings.device}), seed {settings.seed}. \
{outcome.skipped_steps} steps were skipped as not finite. Energy was not measured.

![learning curve](curve.png)"""
    return what, work


def describe_fit(plan: FitPlan, outcome: Outcome, facts: dict[str, Any]) -> tuple[str, str]:
    """Return the same of a model that was made in one go."""
    work = f"""One pass over {format_count(outcome.tokens)} tokens, {format_seconds(outcome.seconds)}, on \
{platform.machine()} (cpu), seed {plan.settings.seed}. Energy was not measured."""
    return f"{facts['what']} ({facts['sizes']}", work
