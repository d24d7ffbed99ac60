"""`langmill info`. [cli]"""

from __future__ import annotations

import json

import click


@click.command("info")
@click.argument("checkpoint")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def info(checkpoint: str, as_json: bool) -> None:
    """Say what the model in CHECKPOINT is: its parts, its cost, its memory, and a drawing of the stack."""
    from langmill.checkpoint.folder import load_checkpoint
    from langmill.core.log import format_count
    from langmill.evaluation.anatomy import anatomy
    from langmill.models.protocol import Layerless

    loaded = load_checkpoint(checkpoint)
    found = anatomy(loaded.model)
    limit = loaded.model.config.output_stack.max_positions
    contexts = sorted({min(limit, 1024), limit} if found.cache_numbers_per_token else {min(limit, 1024)})
    memory = {
        dtype: {str(context): sum(found.memory(dtype, context)) for context in contexts}
        for dtype in found.bytes_each
    }
    if as_json:
        facts = {
            "checkpoint": checkpoint,
            "family": loaded.family,
            "parameters": found.total,
            "adapter": loaded.adapter or None,
            "parts": dict(found.parameters),
            "flops_per_token": found.flops_per_token,
            "flops_per_context_token": found.flops_per_context_token,
            "memory_bytes": memory,
        }
        print(json.dumps(facts, ensure_ascii=False, indent=2))
        return
    print(f"{checkpoint}: {loaded.family}, {format_count(found.total)} parameters")
    if loaded.adapter:
        kind = "dora" if loaded.adapter.get("use_dora") else "lora"
        print(f"{kind} adapter of rank {loaded.adapter['r']}, shown merged into {loaded.base}")
    print()
    print("\n".join(f"    {line}" for line in found.drawing))
    print()
    width = max(18, *map(len, found.parameters))
    for part, count in sorted(found.parameters.items(), key=lambda each: -each[1]):
        print(f"    {part:{width}} {count:>15,}  {count / found.total:6.1%}")
    print()
    if found.flops_per_token:
        print(f"a token    {format_count(found.flops_per_token)} operations to read it, and", end=" ")
        print(f"{format_count(found.flops_per_context_token)} for each token of context")
    for dtype, sizes in memory.items():
        if isinstance(loaded.model.config, Layerless):  # which keeps nothing of what it has read
            print(f"memory     {format_count(next(iter(sizes.values())))}B")
            continue
        listed = ", ".join(f"{format_count(size)}B at {context} tokens" for context, size in sizes.items())
        print(f"memory     {dtype:9} weights and cache {listed}")
