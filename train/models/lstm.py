"""An LSTM (Hochreiter and Schmidhuber 1997) that classifies texts."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from train.data.inputs import PADDING

_WIDTH = 64  # of the embedding and of the hidden state
_FORGET_BIAS = 1.0  # added to the forget gate, so that it is nearly open at the start


class TextLSTM(nnx.Module):
    """Embedding, one LSTM layer, mean over the tokens without padding, classifier.

    Args:
      num_classes: The number of logits.
      vocabulary: The number of token ids.
      length: Not used; texts of any length are allowed.
      dropout: The share of the outputs of the embedding, and of the inputs of the classifier, that
        is dropped.
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
        del length
        self.embed = nnx.Embed(vocabulary, _WIDTH, dtype=dtype, rngs=rngs)
        self.lstm = LSTM(_WIDTH, _WIDTH, dtype, rngs)
        self.head = nnx.Linear(_WIDTH, num_classes, dtype=dtype, rngs=rngs)
        self.dropout = nnx.Dropout(dropout)

    def __call__(self, token_ids: jax.Array, rngs: nnx.Rngs | None) -> jax.Array:
        """Return the logits (batch, classes).

        Args:
          token_ids: Integers (batch, length).
          rngs: For dropout; None in evaluation.
        """
        is_token = (token_ids != PADDING)[..., None]
        x = self.dropout(self.embed(token_ids), deterministic=rngs is None, rngs=rngs)
        x = self.lstm(x, is_token)
        x = jnp.sum(x * is_token, 1) / jnp.maximum(jnp.sum(is_token, 1), 1)
        return self.head(self.dropout(x, deterministic=rngs is None, rngs=rngs))


class LSTM(nnx.Module):
    """One layer; its kernels hold the gates side by side: input, forget, cell, output."""

    def __init__(self, features: int, width: int, dtype: Any, rngs: nnx.Rngs):
        self.width = width
        self.inputs = nnx.Linear(features, 4 * width, dtype=dtype, rngs=rngs)
        self.recurrent = nnx.Linear(
            width,
            4 * width,
            use_bias=False,
            kernel_init=nnx.initializers.orthogonal(),
            dtype=dtype,
            rngs=rngs,
        )

    def __call__(self, x: jax.Array, is_token: jax.Array) -> jax.Array:
        """Return the hidden states (batch, length, width); padding does not change the state.

        Args:
          x: (batch, length, features).
          is_token: (batch, length, 1); False for padding.
        """
        # One product for all tokens, so that the scan contains the recurrent product only.
        gates = self.inputs(x.swapaxes(0, 1))
        start = jnp.zeros((x.shape[0], self.width), gates.dtype)
        _, hidden = jax.lax.scan(self._step, (start, start), (gates, is_token.swapaxes(0, 1)))
        return hidden.swapaxes(0, 1)

    def _step(self, state: tuple[jax.Array, jax.Array], token: tuple[jax.Array, jax.Array]):
        (hidden, cell), (gates, is_token) = state, token
        i, f, g, o = jnp.split(gates + self.recurrent(hidden), 4, axis=-1)
        new_cell = nnx.sigmoid(f + _FORGET_BIAS) * cell + nnx.sigmoid(i) * jnp.tanh(g)
        new_hidden = nnx.sigmoid(o) * jnp.tanh(new_cell)
        state = jnp.where(is_token, new_hidden, hidden), jnp.where(is_token, new_cell, cell)
        return state, state[0]
