"""The Flax models of Hugging Face's transformers 4."""

import functools
import re
from typing import Any

import jax
import jax.numpy as jnp
import transformers

from public_models.check import Axes, Case, Model

_SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "vocab_size": 99,
    "max_position_embeddings": 64,
}
_ENCODER_DECODER = {
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "vocab_size": 99,
    "max_position_embeddings": 64,
}
_GPT2 = {"n_embd": 32, "n_layer": 2, "n_head": 4, "vocab_size": 99, "n_positions": 64}
_IMAGES = {"image_size": 32, "patch_size": 8, **_SIZES}
_CONVOLUTIONS = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 2]}

# The class, its configuration and the kind of its inputs.
_MODELS: dict[str, tuple[dict[str, Any], str]] = {
    "FlaxAlbertForMaskedLM": ({**_SIZES, "embedding_size": 16}, "text"),
    "FlaxBartForConditionalGeneration": (_ENCODER_DECODER, "pair"),
    "FlaxBeitForMaskedImageModeling": ({**_IMAGES, "use_relative_position_bias": True}, "image"),
    "FlaxBertForMaskedLM": (_SIZES, "text"),
    "FlaxBertForSequenceClassification": (_SIZES, "text"),
    "FlaxBigBirdForMaskedLM": ({**_SIZES, "attention_type": "original_full"}, "text"),
    "FlaxBlenderbotForConditionalGeneration": (_ENCODER_DECODER, "pair"),
    "FlaxBlenderbotSmallForConditionalGeneration": (_ENCODER_DECODER, "pair"),
    "FlaxBloomForCausalLM": ({**_GPT2, "hidden_size": 32}, "text"),
    "FlaxDinov2ForImageClassification": (_IMAGES, "image"),
    "FlaxDistilBertForMaskedLM": (
        {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64, "vocab_size": 99},
        "text",
    ),
    "FlaxElectraForMaskedLM": ({**_SIZES, "embedding_size": 16}, "text"),
    "FlaxGPT2LMHeadModel": (_GPT2, "text"),
    "FlaxGPTJForCausalLM": ({**_GPT2, "rotary_dim": 4}, "text"),
    "FlaxGPTNeoForCausalLM": (
        {
            "hidden_size": 32,
            "num_layers": 2,
            "num_heads": 4,
            "vocab_size": 99,
            "max_position_embeddings": 64,
            "attention_types": [[["global", "local"], 1]],
        },
        "text",
    ),
    "FlaxGemmaForCausalLM": ({**_SIZES, "num_key_value_heads": 1, "head_dim": 8}, "text"),
    "FlaxLlamaForCausalLM": ({**_SIZES, "num_key_value_heads": 2}, "text"),
    "FlaxMBartForConditionalGeneration": (_ENCODER_DECODER, "pair"),
    "FlaxMarianMTModel": ({**_ENCODER_DECODER, "pad_token_id": 1}, "pair"),
    "FlaxMistralForCausalLM": ({**_SIZES, "num_key_value_heads": 2}, "text"),
    "FlaxOPTForCausalLM": ({**_SIZES, "ffn_dim": 64, "word_embed_proj_dim": 32}, "text"),
    "FlaxPegasusForConditionalGeneration": (_ENCODER_DECODER, "pair"),
    "FlaxRegNetForImageClassification": (
        {**_CONVOLUTIONS, "groups_width": 8, "image_size": 32},
        "image",
    ),
    "FlaxResNetForImageClassification": ({**_CONVOLUTIONS, "image_size": 32}, "image"),
    "FlaxRoFormerForMaskedLM": ({**_SIZES, "embedding_size": 32}, "text"),
    "FlaxRobertaForMaskedLM": (_SIZES, "text"),
    "FlaxRobertaPreLayerNormForMaskedLM": (_SIZES, "text"),
    "FlaxViTForImageClassification": (_IMAGES, "image"),
    "FlaxWav2Vec2ForCTC": (
        {
            **_SIZES,
            "conv_dim": (16, 16),
            "conv_kernel": (10, 3),
            "conv_stride": (5, 2),
            "num_feat_extract_layers": 2,
            "num_conv_pos_embeddings": 8,
            "num_conv_pos_embedding_groups": 2,
            "do_stable_layer_norm": True,
            "feat_extract_norm": "layer",
        },
        "audio",
    ),
    "FlaxWhisperForConditionalGeneration": (
        {**_ENCODER_DECODER, "num_mel_bins": 16, "max_source_positions": 16},
        "speech",
    ),
    "FlaxXGLMForCausalLM": (
        {"d_model": 32, "num_layers": 2, "attention_heads": 4, "ffn_dim": 64, "vocab_size": 99},
        "text",
    ),
    "FlaxXLMRobertaForMaskedLM": (_SIZES, "text"),
}


def _expected(is_tied: bool, is_gpt2: bool, path: str, leaf: Any) -> Axes:
    """Return the axes of `nn.Dense`, `nn.Conv` and `nn.Embed`, and of the exceptions in here."""
    name = path.rpartition("/")[2]
    rank = len(leaf.shape)
    if name == "embedding" and is_tied and re.search(_TIED_TABLES, path):
        return (1,)
    if name == "weight_v":  # weight normalization of a convolution, in the layout of PyTorch
        return (1, 2)
    if name != "kernel" or rank < 2:
        return ()
    if is_gpt2 and "/c_" in path:  # FlaxConv1D, whose kernel is (out, in)
        return (1,)
    return tuple(range(rank - 1))


_TIED_TABLES = r"(^|/)(shared|wte|word_embeddings|embed_tokens)/embedding$"


def _build(name: str) -> Case:
    kwargs, kind = _MODELS[name]
    model_class = getattr(transformers, name)
    config = model_class.config_class(**kwargs)
    model = model_class(config, _do_init=False)
    args = _INPUTS[kind](config)
    params = jax.eval_shape(
        lambda key: model.init_weights(key, model.input_shape), jax.random.key(0)
    )

    def fn(params, *args):
        return model(*args, params=params)["logits"]

    has_word_output = re.search("LM|MTModel|Generation", name) is not None
    is_tied = has_word_output and getattr(config, "tie_word_embeddings", False)
    is_gpt2 = name.startswith("FlaxGPT2")
    return Case(fn, params, args, functools.partial(_expected, is_tied, is_gpt2))


def _tokens(config: Any) -> tuple[Any, ...]:
    return (jax.ShapeDtypeStruct((2, 16), jnp.int32),)


def _pair(config: Any) -> tuple[Any, ...]:
    return (
        *_tokens(config),
        jnp.ones((2, 16), jnp.int32),
        jax.ShapeDtypeStruct((2, 12), jnp.int32),
    )


def _image(config: Any) -> tuple[Any, ...]:
    return (jax.ShapeDtypeStruct((2, 3, 32, 32), jnp.float32),)


def _audio(config: Any) -> tuple[Any, ...]:
    return (jax.ShapeDtypeStruct((2, 400), jnp.float32),)


def _speech(config: Any) -> tuple[Any, ...]:
    features = jax.ShapeDtypeStruct((2, config.num_mel_bins, 32), jnp.float32)
    return (features, jax.ShapeDtypeStruct((2, 12), jnp.int32))


_INPUTS = {"text": _tokens, "pair": _pair, "image": _image, "audio": _audio, "speech": _speech}
MODELS = [Model("transformers", name, functools.partial(_build, name)) for name in _MODELS]
