"""A small transformer encoder (Vaswani et al. 2017, arXiv 1706.03762) that classifies texts."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from train.data.inputs import PADDING

_WIDTH, _HEADS, _DEPTH = 64, 2, 2
_POSITIONS_INIT = nnx.initializers.normal(0.02)


class TextTransformer(nnx.Module):
    """Embedding, learned positions, pre-norm blocks, mean over the tokens, classifier.

    Padding is masked in attention and left out of the mean.

    Args:
      num_classes: The number of logits.
      vocabulary: The number of token ids.
      length: The length of a text in tokens.
      dropout: The share of the outputs of the embedding and of each branch that is dropped.
      dtype: The dtype of the activations.
      rngs: For the initial parameters.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        vocabulary: int,
        length: int,
        dropout: float,
        dtype: Any,
        rngs: nnx.Rngs,
    ):
        self.embed = nnx.Embed(vocabulary, _WIDTH, dtype=dtype, rngs=rngs)
        self.positions = nnx.Param(_POSITIONS_INIT(rngs.params(), (length, _WIDTH)))
        self.blocks = nnx.List([Block(dropout, dtype, rngs) for _ in range(_DEPTH)])
        self.norm = nnx.LayerNorm(_WIDTH, dtype=dtype, rngs=rngs)
        self.head = nnx.Linear(_WIDTH, num_classes, dtype=dtype, rngs=rngs)
        self.dropout = nnx.Dropout(dropout)

    def __call__(self, token_ids: jax.Array, rngs: nnx.Rngs | None) -> jax.Array:
        """Return the logits (batch, classes).

        Args:
          token_ids: Integers (batch, length).
          rngs: For dropout; None in evaluation.
        """
        is_token = token_ids != PADDING
        x = self.embed(token_ids)
        x = x + self.positions[...].astype(x.dtype)[None]
        x = self.dropout(x, deterministic=rngs is None, rngs=rngs)
        for block in self.blocks:
            x = block(x, is_token[:, None, None], rngs)
        x = self.norm(x) * is_token[..., None]
        return self.head(jnp.sum(x, 1) / jnp.maximum(jnp.sum(is_token, 1, keepdims=True), 1))


class Block(nnx.Module):
    """Two residual branches, self-attention and a two-layer perceptron, each after a layer norm."""

    def __init__(self, dropout: float, dtype: Any, rngs: nnx.Rngs):
        self.norm1 = nnx.LayerNorm(_WIDTH, dtype=dtype, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(
            _HEADS, _WIDTH, dtype=dtype, decode=False, keep_rngs=False, rngs=rngs
        )
        self.norm2 = nnx.LayerNorm(_WIDTH, dtype=dtype, rngs=rngs)
        self.wide = nnx.Linear(_WIDTH, 4 * _WIDTH, dtype=dtype, rngs=rngs)
        self.narrow = nnx.Linear(4 * _WIDTH, _WIDTH, dtype=dtype, rngs=rngs)
        self.dropout = nnx.Dropout(dropout)

    def __call__(self, x: jax.Array, mask: jax.Array, rngs: nnx.Rngs | None) -> jax.Array:
        branch = self.attention(self.norm1(x), mask=mask)
        x = x + self.dropout(branch, deterministic=rngs is None, rngs=rngs)
        branch = self.narrow(nnx.gelu(self.wide(self.norm2(x))))
        return x + self.dropout(branch, deterministic=rngs is None, rngs=rngs)
