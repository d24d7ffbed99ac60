"""A checkpoint in hand: what `langmill.load` returns. [cli]

Its methods import what they need when they are called.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from langmill.core.errors import LangmillError

if TYPE_CHECKING:
    import numpy as np
    import torch

    from langmill.generation.generate import Generation


CHAT_SAMPLING = {"do_sample": True, "temperature": 0.4, "top_p": 0.9}
"""How a chat is sampled where the checkpoint does not say: an answer is wanted, not a surprise."""


class Model:
    """A checkpoint in hand: what `langmill.load` returns."""

    def __init__(self, checkpoint: Any) -> None:
        self.checkpoint = checkpoint
        self.model = checkpoint.model
        self.tokenizer = checkpoint.tokenizer

    def __repr__(self) -> str:
        """Return what it is made for, of which kind and how large."""
        from langmill.core.log import format_count
        from langmill.tasks import task_of

        size = format_count(sum(p.numel() for p in self.model.parameters()))
        parts = [task_of(self.model), self.checkpoint.family, f"{size} parameters"]
        if (head := getattr(self.model.config, "head", None)) is not None:
            parts.append(f"{len(head.labels)} labels")
        return f"<langmill.Model {self.checkpoint.folder}: {', '.join(parts)}>"

    def _need_tokenizer(self) -> Any:
        if self.tokenizer is None:
            raise LangmillError(f"{self.checkpoint.folder}: has no tokenizer.json, so it cannot read text")
        return self.tokenizer

    def logits(self, input_ids: Any, decoder_input_ids: Any = None) -> torch.Tensor:
        """Return scores (B, T, V) for ids (B, T), a tensor or nested lists.

        A decoder scores the next token at each place, an encoder the token at it. An encoder-decoder
        reads `input_ids` and scores `decoder_input_ids`, (B, T) too.
        """
        import torch

        device = next(self.model.parameters()).device
        ids = torch.as_tensor(input_ids, device=device)
        settings = {}
        if decoder_input_ids is not None:
            settings["decoder_ids"] = torch.as_tensor(decoder_input_ids, device=device)
        with torch.no_grad():
            return self.model(ids, **settings)

    def predict(
        self,
        texts: str | Sequence[str | tuple[str, str]],
        *,
        precision: Literal["auto", "float32", "bfloat16"] = "float32",
    ) -> Any:
        """Return what the model makes of a text, or of each of several: an encoder fills in what [MASK] hides.

        Two texts that are to be read together are a tuple: `model.predict([("A [MASK].", "B.")])`. precision: how
        matrices are multiplied; auto: in bfloat16 where the device has hardware for it, which is faster.
        """
        from langmill.core.device import inference_products
        from langmill.models.protocol import device_of
        from langmill.tasks import task_for

        self._need_tokenizer()
        given = [texts] if isinstance(texts, str) else list(texts) if isinstance(texts, Iterable) else [texts]
        for each in given:
            if not all(
                isinstance(part, str) for part in (each if isinstance(each, tuple | list) else [each])
            ):
                raise LangmillError(
                    f"predict: found {each!r:.60}, expected a string, or a sequence of strings (or of tuples of two, which are"
                    " read together)"
                )
        with inference_products(device_of(self.model), precision):
            results = task_for(self.model).predict(self.checkpoint, given)
        return results[0] if isinstance(texts, str) else results

    def logprobs(self, text: str) -> np.ndarray:
        """Return the natural log-probability of each of the text's tokens given those before it, (T,)."""
        from langmill.evaluation.language import logprobs

        return logprobs(self.model, self._need_tokenizer(), text)

    def generate(self, prompt: str, **settings: Any) -> Generation:
        """Continue a prompt: settings are those of `SamplingSettings`, such as max_tokens=50, seed=1.

        Where one is not given, what the checkpoint's generation_config.json recommends holds.
        """
        (result,) = self.generate_batch([prompt], **settings)
        return result

    def generate_batch(self, prompts: Sequence[str], **settings: Any) -> list[Generation]:
        """Continue each of several prompts, whose texts do not influence each other."""
        from langmill.generation.generate import generate

        wanted, rules = self._asked(settings)
        return generate(self.model, self.tokenizer, list(prompts), wanted, rules=rules)

    def chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        on_text: Callable[[str], None] | None = None,
        **settings: Any,
    ) -> Generation:
        """Answer a conversation, such as [{"role": "user", "content": "Hello"}]; settings as for `generate`.

        Where neither they nor the checkpoint say how to sample, CHAT_SAMPLING holds.

        on_text: called with each piece of the answer as soon as it is certain.
        """
        from langmill.generation.chat import answer

        wanted, rules = self._asked(settings, usual=CHAT_SAMPLING)
        return answer(self.model, self.tokenizer, messages, wanted, on_text=on_text, rules=rules)

    def _asked(
        self, settings: Mapping[str, Any], *, usual: Mapping[str, Any] | None = None
    ) -> tuple[Any, Any]:
        """Return the SamplingSettings that are asked, over those recommended, and the checkpoint's TokenRules.

        usual: what holds where the checkpoint says nothing of sampling.
        """
        from langmill.generation.rules import token_rules
        from langmill.generation.settings import sampling_settings

        recommended = self.checkpoint.generation
        rules = token_rules(self._need_tokenizer().eos_id, self.checkpoint.config, recommended)
        if usual and recommended.get("do_sample") is None:
            recommended = {**usual, **recommended}
        return sampling_settings(recommended, settings), rules

    def save(self, folder: str | Path, *, dtype: str = "", overwrite: bool = False) -> None:
        """Write a plain Hugging Face folder: model (an adapter is merged), tokenizer and their settings.

        dtype: float32, bfloat16 or float16; empty: as it is. overwrite: replace a checkpoint in the folder.
        """
        from langmill.checkpoint.export import export_checkpoint

        export_checkpoint(folder, self.checkpoint, dtype=dtype, overwrite=overwrite)


def load(path: str | Path, *, device: str = "cpu") -> Model:
    """Load a checkpoint: a run folder, a Hugging Face folder, a .gguf file, or a hub name when online.

    An adapter is merged into its base. Several that label texts answer as one: `load("runs/a+runs/b")`.
    """
    from langmill.checkpoint import open_checkpoint

    return Model(open_checkpoint(path, device=device))
