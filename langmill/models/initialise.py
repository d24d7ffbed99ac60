"""How weights begin. [models]"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from langmill.core.errors import ConfigError
from langmill.models.bag import BagClassifier, BagConfig
from langmill.models.config import TransformerConfig
from langmill.models.crf import CrfConfig, CrfTagger
from langmill.models.heads import HeadConfig, Headed, HeadedConfig, without_output
from langmill.models.ngram_decoder import NgramConfig, NgramDecoder
from langmill.models.recurrent import Recurrent, RecurrentConfig
from langmill.models.recurrent_layers import RecurrentLayer, TextAttention
from langmill.models.transformer import Attention, FeedForward, Transformer

FILLERS = ("normal_", "uniform_", "kaiming_uniform_", "ones_", "zeros_")


class Unfilled(TorchFunctionMode):
    """While this is entered, new layers have weights of type `dtype` that nothing is written to."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if getattr(function, "__name__", "") in FILLERS:
            return args[0] if args else kwargs["tensor"]
        if function is torch.empty and kwargs.get("dtype") is None:
            kwargs["dtype"] = self.dtype
        return function(*args, **kwargs)


def allocate(
    config: TransformerConfig | RecurrentConfig | NgramConfig | BagConfig | CrfConfig | HeadedConfig,
    *,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
) -> Any:
    """Return a model whose weights hold nothing yet, without the time that random numbers take.

    (PyTorch's way, the meta device, loads the compiler, which takes seconds.)
    """
    with torch.device(device), Unfilled(dtype):
        if isinstance(config, NgramConfig):
            return NgramDecoder(config)
        if isinstance(config, BagConfig):
            return BagClassifier(config)
        if isinstance(config, CrfConfig):
            return CrfTagger(config)
        if isinstance(config, HeadedConfig):
            return Headed(config)
        return Recurrent(config) if isinstance(config, RecurrentConfig) else Transformer(config)


def under_head(model: Any, head: HeadConfig) -> Headed:
    """Return the body of a model, its very layers, under a head on the CPU whose weights hold nothing yet.

    Raises ConfigError for models that no head goes on: n-gram models and encoder-decoders.
    """
    body, config = (model.body, model.config.body) if isinstance(model, Headed) else (model, model.config)
    if isinstance(config, NgramConfig | BagConfig | CrfConfig):
        raise ConfigError("a model of n-grams has no states for a head to read; take a network")
    config = HeadedConfig(body=replace(config, **without_output(config)), head=head)
    headed = allocate(config, dtype=next(model.parameters()).dtype)
    for name, _ in list(headed.body.named_children()):
        setattr(headed.body, name, getattr(body, name))
    return headed.train(model.training)


def without_scores(model: Any) -> Any:
    """Return the body of a model, its very layers, without a head and without an output layer.

    Raises ConfigError for models whose states stand for no text: n-gram models and encoder-decoders.
    """
    if isinstance(model, Headed):
        return model.body.train(model.training)
    config = model.config
    if isinstance(config, NgramConfig) or (config.encoder is not None and config.decoder is not None):
        raise ConfigError("vectors of texts are made by an encoder or a decoder; this model is neither")
    if not config.has_output:
        return model
    body = allocate(replace(config, **without_output(config)), dtype=next(model.parameters()).dtype)
    for name, _ in list(body.named_children()):
        setattr(body, name, getattr(model, name))
    return body.train(model.training)


@torch.no_grad()
def initialise(
    model: Transformer, generator: torch.Generator, *, scheme: Literal["unit", "gpt2"] = "unit"
) -> None:
    """Set every weight of a model that is to be trained from scratch.

    | weight                       | scheme "unit" (the default)                  | scheme "gpt2"              |
    |------------------------------|----------------------------------------------|----------------------------|
    | embedding, tied to output    | normal, deviation 0.02                       | normal, deviation 0.02     |
    | embedding, untied            | normal, deviation 1                          | normal, deviation 0.02     |
    | output layer, untied         | zero: the first prediction is uniform        | normal, deviation 0.02     |
    | learned positions            | normal, deviation 0.02                       | the same                   |
    | query, key, value, up, gate  | uniform in ±sqrt(3 / inputs): deviation      | normal, deviation 0.02     |
    |                              | inputs^-½, which keeps the input's variance  |                            |
    | query of T5's scores         | the same times inputs a head^-½, as they are | normal, deviation 0.02     |
    |                              | not scaled afterwards                        |                            |
    | attention output, down       | zero: every block begins as the identity     | deviation 0.02 / (2 L)^½   |
    | norms                        | weight 1, bias 0                             | the same                   |
    | biases                       | 0                                            | the same                   |

    Zero output projections follow Zhang et al. 2019 (Fixup, arXiv:1901.09321) and Yang et al. 2022
    (arXiv:2203.03466, appendix D.2). "gpt2" is Radford et al. 2019, section 2.3, L being the layers.
    """
    plain = scheme == "gpt2"
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            bound = (3 / module.weight.shape[1]) ** 0.5
            if plain or isinstance(module, nn.Embedding):
                module.weight.normal_(0, 0.02, generator=generator)
            else:
                module.weight.uniform_(-bound, bound, generator=generator)
        elif isinstance(module, nn.LayerNorm | nn.RMSNorm):
            module.weight.fill_(1)
        bias = getattr(module, "bias", None)
        if isinstance(bias, nn.Parameter):
            bias.zero_()
    deviation = 0.02 / (2 * model.config.output_stack.layers) ** 0.5
    for module in model.modules():
        if isinstance(module, Attention | FeedForward):
            last = module.output if isinstance(module, Attention) else module.down
            if plain:
                last.weight.normal_(0, deviation, generator=generator)
                continue
            last.weight.zero_()
            if isinstance(module, Attention) and module.scale:
                module.query.weight.mul_(module.head_width**-0.5 / module.scale)
    if not model.config.has_output:
        return
    if model.config.tie_output:
        # The walk above met this weight twice, the second time as the output layer.
        model.output_embed.weight.normal_(0, 0.02, generator=generator)
    elif not plain:
        model.output.weight.zero_()
        model.output_embed.weight.normal_(0, 1.0, generator=generator)


def rate_shares(model: nn.Module) -> dict[str, float]:
    """Return the weights whose steps must be smaller than others', by name, and the share.

    T5 does not divide its scores by the square root of the head's channels, so its query weights are
    smaller by that factor, from the beginning on, and so must be what is added to them.
    """
    return {
        f"{name}.query.weight": module.head_width**-0.5 / module.scale
        for name, module in model.named_modules()
        if isinstance(module, Attention) and module.scale
    }


@torch.no_grad()
def initialise_recurrent(model: Recurrent, generator: torch.Generator) -> None:
    """Set every weight of a recurrent model that is to be trained from scratch.

    | weight                       |                                                                          |
    |------------------------------|--------------------------------------------------------------------------|
    | embedding                    | normal, deviation 0.02 where it is the output layer too, else 0.1        |
    | output layer, untied         | zero: the first prediction is uniform                                    |
    | from the input               | uniform in ±sqrt(3 / inputs), which keeps the input's variance           |
    | from the last state          | orthogonal, each gate by itself (Saxe et al. 2014, arXiv:1312.6120)      |
    | attention's matrices, bridge | as those from the input                                                  |
    | energy of additive attention | zero: every state is looked at alike (Bahdanau et al. 2015, appendix B.1)|
    | biases                       | 0, but 1 for the LSTM's forget gate (Jozefowicz et al. 2015)             |
    """

    def spread(weight: torch.Tensor) -> None:
        bound = (3 / weight.shape[1]) ** 0.5
        weight.uniform_(-bound, bound, generator=generator)

    config = model.config
    tied = config.has_output and config.tie_output
    model.embed.weight.normal_(0, 0.02 if tied else 0.1, generator=generator)
    if config.has_output:
        if not tied:
            model.output.weight.zero_()
        model.output.bias.zero_()
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and name != "output":
            spread(module.weight)
            if module.bias is not None:
                module.bias.zero_()
        elif isinstance(module, TextAttention) and module.additive:
            module.energy.zero_()
        elif isinstance(module, RecurrentLayer):
            spread(module.weight_input)
            size = module.outputs
            for gate in module.weight_hidden.split(size):
                nn.init.orthogonal_(gate, generator=generator)
            module.bias_input.zero_()
            module.bias_hidden.zero_()
            if module.kind == "lstm":
                module.bias_input[size : 2 * size] = 1  # input, forget, cell, output


@torch.no_grad()
def initialise_head(model: Headed, generator: torch.Generator) -> None:
    """Set the weights of a head, not of its body.

    | weight                  |                                                                |
    |-------------------------|----------------------------------------------------------------|
    | transform               | uniform in ±sqrt(3 / inputs), which keeps the input's variance |
    | output layer            | normal, deviation 0.02 (Devlin et al. 2019)                    |
    | biases, transitions     | 0                                                              |
    """
    if model.transitions is not None:
        model.transitions.zero_()
    if model.transform is not None:
        bound = (3 / model.transform.in_features) ** 0.5
        model.transform.weight.uniform_(-bound, bound, generator=generator)
        model.transform.bias.zero_()
    model.output.weight.normal_(0, 0.02, generator=generator)
    if model.output.bias is not None:
        model.output.bias.zero_()
