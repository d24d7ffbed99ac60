"""`langmill generate`. [cli]"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict
from typing import Any

import click

from langmill.cli.options import read_input, settings_options
from langmill.generation.settings import SamplingSettings, sampling_settings


@click.command("generate")
@click.argument("checkpoint")
@click.option(
    "--prompt", "prompts", multiple=True, help="Text to continue; none: begin a document.  (repeatable)"
)
@click.option(
    "--prompt-file",
    "prompt_files",
    multiple=True,
    help="A file whose whole text is a prompt; - reads standard input.  (repeatable)",
)
@click.option("--device", default="auto", help="auto, cpu, cuda, mps  [default: auto]")
@click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object a prompt, without the prompt's text."
)
@settings_options(SamplingSettings)
def generate(
    checkpoint: str,
    prompts: tuple[str, ...],
    prompt_files: tuple[str, ...],
    device: str,
    as_json: bool,
    overrides: dict[str, Any],
) -> None:
    """Continue texts with the model in CHECKPOINT (a run, a Hugging Face folder, a .gguf file or a hub name).

    \b
    langmill generate runs/a --prompt "Once upon a time" --max-tokens 100 --seed 1
    langmill generate runs/a --prompt "话说" --temperature 0

    Where an option is not given, what the checkpoint's generation_config.json recommends holds.
    """
    from langmill.checkpoint.folder import load_checkpoint
    from langmill.core.device import choose_device
    from langmill.core.errors import CheckpointError
    from langmill.core.log import format_seconds, say
    from langmill.generation.generate import generate as generate_texts
    from langmill.generation.generate import positions_of
    from langmill.generation.rules import token_rules

    sampling_settings({}, overrides)  # what is wrong is said before the model is loaded
    texts = [*prompts, *(read_prompt(path) for path in prompt_files)] or [""]
    loaded = load_checkpoint(checkpoint, device=choose_device(device))
    if loaded.tokenizer is None:
        raise CheckpointError(f"{checkpoint}: has no tokenizer.json, without which text cannot be generated")
    positions_of(loaded.model)  # what cannot generate is refused before the prompt is printed
    settings = sampling_settings(loaded.generation, overrides)
    stream = len(texts) == 1 and not as_json
    if stream and loaded.model.config.encoder is None:
        write(texts[0])
    begin = time.perf_counter()
    results = generate_texts(
        loaded.model,
        loaded.tokenizer,
        texts,
        settings,
        on_text=write if stream else None,
        rules=token_rules(loaded.tokenizer.eos_id, loaded.config, loaded.generation),
    )
    seconds = time.perf_counter() - begin
    if stream:
        write("\n")
    for number, (text, result) in enumerate(zip(texts, results), 1):
        shown = text if loaded.model.config.encoder is None else f"{text}\n→ "
        if as_json:
            write(json.dumps(asdict(result), ensure_ascii=False) + "\n")
        elif not stream:
            write(f"=== {number} of {len(texts)}\n{shown}{result.text}\n")
        for place, other in enumerate(() if as_json else result.alternatives, 2):
            write(
                f"--- {place}, score {other.score:.3f} (the first: {result.score:.3f})\n{shown}{other.text}\n"
            )
    tokens = sum(len(result.tokens) for result in results)
    say(f"{tokens} tokens in {format_seconds(seconds)}, {tokens / seconds:.1f} a second")


def read_prompt(path: str) -> str:
    """Return a file's text without the line end that editors add."""
    return read_input(path).removesuffix("\n").removesuffix("\r")


def write(text: str) -> None:
    """Print to standard output at once, whatever its encoding can show."""
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(text.encode(encoding, "replace").decode(encoding))
    sys.stdout.flush()
