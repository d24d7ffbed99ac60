"""A checkpoint as a model of lm-evaluation-harness, which must be installed to import this. [evaluation]

The package declares the class as an entry point of the group `lm_eval.models`, so `lm_eval --model langmill` finds it.
Releases up to 0.4.13 look for no entry points; with these `python -m langmill.evaluation.harness` is `lm_eval`:

    python -m langmill.evaluation.harness run --model langmill --model_args path=runs/x --tasks arc_easy
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from lm_eval.api.model import LM

from langmill.checkpoint import load_checkpoint
from langmill.core.config import resolve
from langmill.core.device import choose_device
from langmill.core.errors import DataError
from langmill.evaluation.continuations import encode_continuations, score_continuations
from langmill.evaluation.language import document_start, need_tokenizer
from langmill.generation.generate import generate, prompt_ids
from langmill.generation.settings import SamplingSettings
from langmill.tokens.chat import render_chat

NEW_TOKENS = 256
"""Of a generation, where the task does not say how many; as the harness has it for its own models."""
LENGTHS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
"""What tasks call the number of tokens, the first that is given counts."""


class LangmillLM(LM):
    """Answers the three kinds of requests; `request.args` are (context, continuation), (text,) or (context, settings)."""

    def __init__(
        self,
        path: str,
        device: str | None = None,
        batch_size: str | int | None = None,
        max_batch_size: int | None = None,
    ) -> None:
        """path: a checkpoint. batch_size, max_batch_size: not used, for batches are made by length and memory."""
        super().__init__()
        self.checkpoint = load_checkpoint(path, device=choose_device(device or "auto"))
        self.words = need_tokenizer(self.checkpoint)
        self.limit: int = self.checkpoint.model.config.decoder.max_positions

    def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
        """Return each continuation's log-likelihood, and whether greedy search would write it."""
        asked = encode_continuations(self.words, [request.args for request in requests])
        found = score_continuations(self.checkpoint.model, asked)
        return [(each.logprob, each.greedy) for each in found]

    def loglikelihood_rolling(self, requests: Sequence[Any]) -> list[float]:
        """Return each text's log-likelihood: in windows as wide as the model reads, the last one moved back to fill it."""
        from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

        start = document_start(self.words)
        if start is None:
            raise DataError(
                "the tokenizer has neither bos nor eos, from which a text's first token is predicted"
            )
        windows = [
            (number, make_disjoint_window(window))
            for number, request in enumerate(requests)
            for window in get_rolling_token_windows(
                self.words.encode(request.args[0]), start, self.limit, context_len=1
            )
        ]
        totals = [0.0] * len(requests)
        found = score_continuations(self.checkpoint.model, [window for _, window in windows])
        for (number, _), each in zip(windows, found):
            totals[number] += each.logprob
        return totals

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        """Return each continuation up to the first stop string; a context that leaves no room loses its beginning."""
        alike: dict[SamplingSettings, list[int]] = defaultdict(list)
        for number, request in enumerate(requests):
            alike[sampling(request.args[1])].append(number)
        texts = [""] * len(requests)
        for settings, numbers in alike.items():
            room = max(1, self.limit - settings.max_tokens)
            prompts = [prompt_ids(self.words, requests[number].args[0])[-room:] for number in numbers]
            found = generate(self.checkpoint.model, self.words, prompts, settings)
            for number, each in zip(numbers, found):
                texts[number] = each.text
        return texts

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """Return messages as the text that the model was trained to go on from."""
        return render_chat(self.words, chat_history, add_generation_prompt=add_generation_prompt)

    @property
    def tokenizer_name(self) -> str:
        """By which the harness tells apart requests that it keeps."""
        return self.words.fingerprint()

    def chat_template(self, chat_template: bool | str = False) -> str:
        """Return the template in use, for the harness's records."""
        return self.words.chat_template or "" if chat_template else ""


def sampling(asked: Mapping[str, Any]) -> SamplingSettings:
    """Return how a task wants texts generated: greedily, unless it gives a temperature.

    >>> sampling({"until": "\\n", "max_gen_toks": 8}).stop
    ('\\n',)
    """
    until = asked.get("until") or ()
    drawn = asked.get("do_sample") is not False and asked.get("temperature")
    names = ("temperature", "top_k", "top_p", "min_p") if drawn else ()
    return resolve(
        SamplingSettings,
        {
            "temperature": 0.0,
            **{name: asked[name] for name in names if asked.get(name) is not None},
            "max_tokens": next((asked[name] for name in LENGTHS if asked.get(name)), NEW_TOKENS),
            "stop": (until,) if isinstance(until, str) else tuple(filter(None, until)),
        },
    )


def main() -> None:
    """Run the harness's command line with the model registered."""
    from lm_eval.__main__ import cli_evaluate
    from lm_eval.api.registry import model_registry

    if "langmill" not in model_registry:
        model_registry.register("langmill", target="langmill.evaluation.harness:LangmillLM")
    cli_evaluate()


if __name__ == "__main__":
    main()
