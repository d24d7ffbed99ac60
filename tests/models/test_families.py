"""config.json to TransformerConfig and back, without any file."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch
from torch import nn

from langmill.core.errors import CheckpointError
from langmill.models.config import RotaryScaling, StackConfig, TransformerConfig, default_decoder
from langmill.models.families import (
    FAMILIES,
    choose_family,
    find_family,
    pair_weights,
    read_config,
    write_config,
)
from langmill.models.initialise import allocate
from langmill.models.transformer import Transformer

# As the published models have them, the keys that do not matter here left out.
GPT2 = {"model_type": "gpt2", "vocab_size": 50257, "n_embd": 768, "n_layer": 12, "n_head": 12}
GPT2 |= {"n_positions": 1024, "n_ctx": 1024, "layer_norm_epsilon": 1e-5, "activation_function": "gelu_new"}
LLAMA3 = {
    "model_type": "llama",
    "vocab_size": 128256,
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_hidden_layers": 16,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 64,
    "max_position_embeddings": 131072,
    "rms_norm_eps": 1e-5,
    "hidden_act": "silu",
    "rope_theta": 500000.0,
    "rope_scaling": {
        "factor": 32.0,
        "high_freq_factor": 4.0,
        "low_freq_factor": 1.0,
        "original_max_position_embeddings": 8192,
        "rope_type": "llama3",
    },
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
}
MISTRAL = {
    "model_type": "mistral",
    "vocab_size": 32000,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "max_position_embeddings": 32768,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "sliding_window": 4096,
}
QWEN2 = {
    "model_type": "qwen2",
    "vocab_size": 151936,
    "hidden_size": 896,
    "intermediate_size": 4864,
    "num_hidden_layers": 24,
    "num_attention_heads": 14,
    "num_key_value_heads": 2,
    "max_position_embeddings": 32768,
    "max_window_layers": 21,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1000000.0,
    "sliding_window": 32768,
    "tie_word_embeddings": True,
    "use_sliding_window": False,
}
QWEN3 = {
    "model_type": "qwen3",
    "vocab_size": 151936,
    "hidden_size": 1024,
    "intermediate_size": 3072,
    "num_hidden_layers": 28,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "max_position_embeddings": 40960,
    "max_window_layers": 28,
    "rms_norm_eps": 1e-6,
    "rope_scaling": None,
    "rope_theta": 1000000,
    "sliding_window": None,
    "tie_word_embeddings": True,
    "use_sliding_window": False,
}
PUBLISHED = {each["model_type"]: each for each in (GPT2, LLAMA3, MISTRAL, QWEN2, QWEN3)}


def read(theirs: dict, **changes) -> TransformerConfig:
    theirs = {**theirs, **changes}
    return read_config(find_family(theirs), theirs)


def refusal(theirs: dict, **changes) -> str:
    with pytest.raises(CheckpointError) as caught:
        read(theirs, **changes)
    message = str(caught.value)
    assert message.startswith("config.json: ")
    assert "\n" not in message
    return message


# ------------------------------------------------------------------------------------------------
# Reading


def test_gpt2():
    config = read(GPT2)
    assert config == TransformerConfig(
        vocabulary=50257,
        tie_output=True,
        decoder=StackConfig(
            layers=12,
            width=768,
            heads=12,
            hidden=3072,
            causal=True,
            max_positions=1024,
            dropout=0.1,
            activation="gelu_tanh",
        ),
    )


def test_llama_with_the_old_spelling():
    config = read(LLAMA3)
    assert config == TransformerConfig(
        vocabulary=128256,
        tie_output=True,
        decoder=StackConfig(
            layers=16,
            width=2048,
            heads=32,
            kv_heads=8,
            head_width=64,
            hidden=8192,
            causal=True,
            norm="rms",
            norm_eps=1e-5,
            positions="rotary",
            max_positions=131072,
            rotary_base=500_000.0,
            rotary_scaling=RotaryScaling(kind="llama3", factor=32.0, trained_positions=8192),
            qkv_bias=False,
            output_bias=False,
            activation="silu",
            gated=True,
            hidden_bias=False,
        ),
    )


def test_old_and_new_spelling_agree():
    old = copy.deepcopy(LLAMA3)
    new = {key: value for key, value in old.items() if key not in ("rope_theta", "rope_scaling")}
    new["rope_parameters"] = {**old["rope_scaling"], "rope_theta": old["rope_theta"]}
    assert read(new) == read(old)
    older = copy.deepcopy(old)
    older["rope_scaling"]["type"] = older["rope_scaling"].pop("rope_type")
    assert read(older) == read(old)


def test_where_the_families_differ():
    stacks = {name: read(theirs).decoder for name, theirs in PUBLISHED.items()}
    assert [stacks[name].qkv_bias for name in ("llama", "mistral", "qwen2", "qwen3")] == [
        False,
        False,
        True,
        False,
    ]
    assert [stacks[name].output_bias for name in ("llama", "mistral", "qwen2", "qwen3")] == [False] * 4
    assert [stacks[name].qk_norm for name in ("llama", "mistral", "qwen2", "qwen3")] == [False] * 3 + [True]
    assert [stacks[name].head_width for name in ("llama", "mistral", "qwen2", "qwen3")] == [64, 128, 64, 128]


def test_null_means_derived():
    stack = read(LLAMA3, head_dim=None, num_key_value_heads=None).decoder
    assert (stack.head_width, stack.kv_heads) == (64, 32)
    assert read(QWEN3, head_dim=None).decoder.head_width == 64
    assert read(GPT2, n_inner=None).decoder.hidden == 3072
    assert read(GPT2, n_inner=100).decoder.hidden == 100


def test_left_out_means_the_familys_default():
    short = {key: QWEN3[key] for key in QWEN3 if key not in ("head_dim", "rms_norm_eps", "rope_theta")}
    stack = read(short).decoder
    assert (stack.head_width, stack.norm_eps, stack.rotary_base) == (128, 1e-6, 10_000.0)
    assert read({key: LLAMA3[key] for key in LLAMA3 if key != "tie_word_embeddings"}).tie_output is False
    assert read(GPT2).tie_output is True


def test_biases_of_llama_and_qwen3():
    stack = read(LLAMA3, attention_bias=True, mlp_bias=True).decoder
    assert (stack.qkv_bias, stack.output_bias, stack.hidden_bias) == (True, True, True)
    stack = read(QWEN3, attention_bias=True).decoder
    assert (stack.qkv_bias, stack.output_bias, stack.hidden_bias) == (True, True, False)


@pytest.mark.parametrize(
    ("spelling", "ours"),
    [("gelu", "gelu"), ("gelu_pytorch_tanh", "gelu_tanh"), ("relu", "relu"), ("swish", "silu")],
)
def test_activations(spelling, ours):
    assert read(GPT2, activation_function=spelling).decoder.activation == ours
    assert read(LLAMA3, hidden_act=spelling).decoder.activation == ours


def test_sliding_windows(caplog):
    def sizes(theirs, **changes):
        decoder = read(theirs, **changes).decoder
        return decoder.window, decoder.max_positions

    assert sizes(MISTRAL) == (4096, 32768)
    assert sizes(MISTRAL, sliding_window=None) == (0, 32768)
    assert sizes(MISTRAL, sliding_window=40000) == (0, 32768)
    assert sizes(QWEN2, sliding_window=100) == (0, 32768)  # use_sliding_window is false
    used = {"sliding_window": 100, "use_sliding_window": True}
    assert sizes(QWEN2, **used, max_window_layers=24) == (0, 32768)
    assert sizes(QWEN2, **used, max_window_layers=0) == (100, 32768)
    one = {"num_hidden_layers": 1, "layer_types": ["sliding_attention"]}
    assert sizes(QWEN3, **one, **used) == (100, 40960)
    assert not caplog.text


def test_windows_of_some_layers_limit_the_context(caplog):
    used = {"sliding_window": 64, "use_sliding_window": True}
    assert read(QWEN2, **used).decoder.max_positions == 64
    assert "sliding_window 64, which not all layers have" in caplog.text
    assert "instead of 32768" in caplog.text
    two = {"num_hidden_layers": 2, "layer_types": ["full_attention", "sliding_attention"]}
    assert read(QWEN3, **two, **used).decoder.max_positions == 64
    assert read(QWEN3, **two, sliding_window=64).decoder.max_positions == 40960


def test_unknown_keys_are_reported(caplog):
    read(LLAMA3, embedding_multiplier=12.0, use_cache=True, _name_or_path="x", pretraining_tp=1)
    assert "ignored, not known for llama: embedding_multiplier" in caplog.text


def test_different_dropout_rates_are_reported(caplog):
    assert read(GPT2, embd_pdrop=0.0).decoder.dropout == 0.1
    assert "differ; training uses 0.1" in caplog.text


@pytest.mark.parametrize(
    ("base", "changes", "word"),
    [
        (
            LLAMA3,
            {"rope_scaling": {"rope_type": "yarn", "factor": 4.0}},
            "'yarn' is not supported; known: default, linear",
        ),
        (LLAMA3, {"rope_scaling": {"type": "dynamic", "factor": 4.0}}, "'dynamic' is not supported"),
        (LLAMA3, {"rope_scaling": {"type": "linear"}}, "'linear' needs a number for factor"),
        (LLAMA3, {"rope_scaling": {"type": "llama3", "factor": 2.0}}, "low_freq_factor, high_freq_factor"),
        (
            LLAMA3,
            {"rope_scaling": {**LLAMA3["rope_scaling"], "low_freq_factor": 4.0}},
            "low_freq_factor below high_freq_factor",
        ),
        (QWEN3, {"rope_parameters": {"full_attention": {"rope_theta": 1.0}}}, "one set for all layers"),
        (QWEN3, {"layer_types": ["chunked_attention"]}, "chunked_attention"),
        (LLAMA3, {"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
        (LLAMA3, {"is_causal": False}, "is_causal False is not supported; it must be True"),
        (LLAMA3, {"quantization_config": {"bits": 4}}, "quantization_config"),
        (
            GPT2,
            {"scale_attn_by_inverse_layer_idx": True},
            "scale_attn_by_inverse_layer_idx True is not supported",
        ),
        (GPT2, {"scale_attn_weights": False}, "scale_attn_weights"),
        (GPT2, {"reorder_and_upcast_attn": True}, "reorder_and_upcast_attn"),
        (GPT2, {"add_cross_attention": True}, "add_cross_attention"),
        (
            GPT2,
            {"activation_function": "mish"},
            "activation_function 'mish' is not supported; known: relu, gelu",
        ),
        (LLAMA3, {"hidden_act": ["silu"]}, "hidden_act"),
        (LLAMA3, {"hidden_size": "2048"}, "hidden_size '2048' is not allowed; it must be an integer"),
        (LLAMA3, {"hidden_size": 2048.5}, "must be an integer"),
        (LLAMA3, {"num_hidden_layers": True}, "must be an integer"),
        (LLAMA3, {"rms_norm_eps": None}, "rms_norm_eps is null; it must be a number"),
        (LLAMA3, {"attention_bias": 1}, "must be true or false"),
        (LLAMA3, {"num_hidden_layers": 0}, "must be at least 1"),
        (LLAMA3, {"num_key_value_heads": 5}, "must be a multiple of"),
        (
            LLAMA3,
            {"model_type": "gemma"},
            "known: bart, bert, eurobert, gpt2, langmill_bag, langmill_crf, langmill_ngram, langmill_recurrent",
        ),
        (LLAMA3, {"model_type": "lama"}, "did you mean llama?"),
        (LLAMA3, {"model_type": None}, "no model_type"),
    ],
)
def test_refusals(base, changes, word):
    assert word in refusal(base, **changes)


def test_a_missing_size_is_not_guessed():
    short = {key: value for key, value in LLAMA3.items() if key != "hidden_size"}
    assert "hidden_size is missing; the llama family needs it" in refusal(short)


# ------------------------------------------------------------------------------------------------
# Writing


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_read_write_read(name):
    config = read(PUBLISHED[name])
    written = write_config(FAMILIES[name], config)
    assert read_config(FAMILIES[name], written) == config
    assert written["architectures"] == [FAMILIES[name].architecture]


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_an_unchanged_config_is_kept_as_it_was(name):
    theirs = {**PUBLISHED[name], "made_by": "someone", "architectures": [FAMILIES[name].architecture]}
    written = write_config(FAMILIES[name], read(theirs), base=theirs, dtype="bfloat16")
    assert "torch_dtype" not in written
    kept = {key: value for key, value in theirs.items() if key != "torch_dtype"}
    assert {**written, **kept} == written
    assert written["dtype"] == "bfloat16"


def test_a_changed_config_takes_the_new_spelling():
    config = read(LLAMA3)
    changed = dataclasses.replace(
        config, decoder=dataclasses.replace(config.decoder, layers=3, rotary_scaling=None)
    )
    written = write_config(FAMILIES["llama"], changed, base={**LLAMA3, "made_by": "someone"})
    assert written["rope_parameters"] == {"rope_theta": 500000.0, "rope_type": "default"}
    assert not {"rope_theta", "rope_scaling"} & written.keys()
    assert (written["num_hidden_layers"], written["made_by"]) == (3, "someone")


def test_a_config_of_another_family_is_no_base():
    written = write_config(
        FAMILIES["llama"], read(MISTRAL, sliding_window=None), base={**MISTRAL, "made_by": "x"}
    )
    assert written["model_type"] == "llama"
    assert "made_by" not in written


def test_windows_survive_a_change():
    config = read(MISTRAL)
    changed = dataclasses.replace(config, vocabulary=32_001)
    assert read(write_config(FAMILIES["mistral"], changed, base=MISTRAL)) == changed
    types = ["full_attention", "sliding_attention"] * 12
    theirs = {**QWEN2, "layer_types": types, "use_sliding_window": True, "sliding_window": 64}
    longer = dataclasses.replace(config, decoder=dataclasses.replace(config.decoder, window=9, layers=3))
    assert write_config(FAMILIES["mistral"], longer, base=MISTRAL)["sliding_window"] == 9
    whole = read(theirs, layer_types=["sliding_attention"] * 24)
    changed = dataclasses.replace(whole, decoder=dataclasses.replace(whole.decoder, window=9, layers=3))
    assert write_config(FAMILIES["qwen2"], changed)["layer_types"] == ["sliding_attention"] * 3
    config = read(theirs)
    changed = dataclasses.replace(config, vocabulary=7)
    assert write_config(FAMILIES["qwen2"], changed, base=theirs)["layer_types"] == types


def test_a_family_says_what_it_cannot_describe():
    config = default_decoder(50, layers=1, width=16, heads=4, kv_heads=2)
    with pytest.raises(
        CheckpointError, match="llama cannot describe this model: decoder.qk_norm would become False"
    ):
        write_config(FAMILIES["llama"], config)
    biased = dataclasses.replace(config, decoder=dataclasses.replace(config.decoder, qkv_bias=True))
    with pytest.raises(CheckpointError, match="decoder.qkv_bias would become False instead of True"):
        write_config(FAMILIES["qwen3"], biased)


def test_choice_of_a_family():
    config = default_decoder(50, layers=1, width=16, heads=4)
    assert choose_family(config).name == "qwen3"
    names = [choose_family(read(theirs)).name for theirs in (GPT2, LLAMA3, MISTRAL, QWEN2, QWEN3)]
    assert names == ["gpt2", "llama", "mistral", "qwen2", "qwen3"]
    encoder = TransformerConfig(vocabulary=5, encoder=dataclasses.replace(config.decoder, causal=False))
    with pytest.raises(CheckpointError, match="no known family"):
        choose_family(encoder)


# ------------------------------------------------------------------------------------------------
# Weight names


def tiny(name: str) -> TransformerConfig:
    sizes = {"hidden_size": 16, "num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 24}
    sizes |= {"n_embd": 16, "n_head": 2, "vocab_size": 7, "num_hidden_layers": 2, "n_layer": 2, "head_dim": 8}
    return read({key: value for key, value in {**PUBLISHED[name], **sizes}.items() if key in PUBLISHED[name]})


def test_names_of_a_gpt2():
    pairings = pair_weights(FAMILIES["gpt2"], allocate(tiny("gpt2")))
    assert len(pairings) == 2 + 2 * 12 + 2 + 1
    attention = pairings["transformer.h.1.attn.c_attn.weight"]
    assert attention.ours == tuple(
        f"decoder.blocks.1.attention.{part}.weight" for part in ("query", "key", "value")
    )
    assert attention.shape == (16, 48)
    assert pairings["transformer.h.1.attn.c_attn.bias"].shape == (48,)
    assert [name for name, each in pairings.items() if each.tied] == ["lm_head.weight"]


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_every_weight_has_one_name(name):
    model = allocate(tiny(name))
    pairings = pair_weights(FAMILIES[name], model).values()
    named = [ours for pairing in pairings for ours in pairing.ours]
    assert sorted(named) == sorted(name for name, _ in model.named_parameters(remove_duplicate=False))


def test_a_weight_without_a_name():
    model = allocate(tiny("llama"))
    model.extra = nn.Linear(2, 2)
    with pytest.raises(CheckpointError, match="no name for extra.weight, extra.bias"):
        pair_weights(FAMILIES["llama"], model)


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_allocated_models_are_complete(name):
    """Made without numbers, a model has the same weights and the same rotary rates as one made with."""
    config = tiny(name)
    allocated, made = allocate(config), Transformer(config)
    shapes = [(name, each.shape) for name, each in made.named_parameters()]
    assert [(name, each.shape) for name, each in allocated.named_parameters()] == shapes
    assert all(torch.equal(a, b) for a, b in zip(allocated.buffers(), made.buffers(), strict=True))
    assert (allocated.output.weight is allocated.decoder.embed.weight) == config.tie_output
    half = allocate(config, dtype=torch.bfloat16)
    assert {each.dtype for each in half.parameters()} == {torch.bfloat16}
    assert {each.dtype for each in half.buffers()} <= {torch.float32}
