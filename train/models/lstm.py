"""An LSTM (Hochreiter and Schmidhuber 1997) that reads a text and says its class."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from train.data.inputs import PADDING

_WIDTH = 64  # of the embedding, and of the state
_FORGET = 1.0  # added to what the forget gate is given, so that at first it forgets little


class TextLSTM(nnx.Module):
    """Embedding, one layer of LSTM, mean over the words, classifier.

    Args:
      num_classes: of the classifier.
      vocabulary: how many numbers of words there are.
      length: words of a text; any are read.
      dropout: share of the embedding's and of the classifier's inputs that are set to 0.
      dtype: of activations.
      rngs: for the initial parameters.
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

    def __call__(self, texts: jax.Array, rngs: nnx.Rngs | None) -> jax.Array:
        """Numbers of words (batch, words) to logits; `rngs` of dropout, None in evaluation."""
        is_word = (texts != PADDING)[..., None]
        x = self.dropout(self.embed(texts), deterministic=rngs is None, rngs=rngs)
        x = self.lstm(x, is_word)
        x = jnp.sum(x * is_word, 1) / jnp.maximum(jnp.sum(is_word, 1), 1)
        return self.head(self.dropout(x, deterministic=rngs is None, rngs=rngs))


class LSTM(nnx.Module):
    """One layer; its four gates are side by side in its kernels: input, forget, cell, output."""

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

    def __call__(self, x: jax.Array, is_word: jax.Array) -> jax.Array:
        """(batch, words, features) to (batch, words, width); padding leaves the state as it is."""
        # One product for all words, and not one for each: the scan then has the recurrent one only.
        gates = self.inputs(x.swapaxes(0, 1))
        start = jnp.zeros((len(x), self.width), gates.dtype)
        _, hidden = jax.lax.scan(self._step, (start, start), (gates, is_word.swapaxes(0, 1)))
        return hidden.swapaxes(0, 1)

    def _step(self, state: tuple[jax.Array, jax.Array], word: tuple[jax.Array, jax.Array]):
        (hidden, cell), (gates, is_word) = state, word
        i, f, g, o = jnp.split(gates + self.recurrent(hidden), 4, axis=-1)
        new_cell = nnx.sigmoid(f + _FORGET) * cell + nnx.sigmoid(i) * jnp.tanh(g)
        new_hidden = nnx.sigmoid(o) * jnp.tanh(new_cell)
        now = jnp.where(is_word, new_hidden, hidden), jnp.where(is_word, new_cell, cell)
        return now, now[0]
