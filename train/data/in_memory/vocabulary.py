"""Texts as token ids, with a vocabulary of the most frequent words of the training texts."""

import collections
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from sklearn.feature_extraction.text import CountVectorizer

from train.data.inputs import PADDING

UNKNOWN = 1
"""The token id of a word that is not in the vocabulary."""

FIRST_WORD = 2
"""The token id of the most frequent word."""

# A word keeps the part after an apostrophe, as in "don't". "!" and "?" count as words because they
# express sentiment. The name after "<" or "</" is an HTML tag, not a word.
PATTERN = r"(?<![<\w])(?<!</)\w+(?:'\w+)*|[!?]"
split_words = CountVectorizer(strip_accents="unicode", token_pattern=PATTERN).build_analyzer()
"""Map a text to the list of its words, in lower case and without accents."""


def build_vocabulary(texts: Iterable[str], size: int) -> dict[str, int]:
    """Return the token ids of the most frequent words.

    Args:
      texts: The training texts.
      size: The number of token ids, including those of padding and unknown words; so there are at
        most `size - FIRST_WORD` words.

    Returns:
      The token ids, from `FIRST_WORD`, in order of decreasing frequency. Words with the same
      frequency are in the order of their code points.
    """
    counts = collections.Counter(word for text in texts for word in split_words(text))
    ranked = sorted(counts, key=lambda word: (-counts[word], word))
    return {word: FIRST_WORD + rank for rank, word in enumerate(ranked[: size - FIRST_WORD])}


def encode(texts: Sequence[str], token_ids: Mapping[str, int], length: int) -> np.ndarray:
    """Return the token ids of the last `length` words of each text, padded in front.

    Returns:
      uint16, (texts, length).
    """
    encoded: np.ndarray = np.full((len(texts), length), PADDING, np.uint16)
    for row, text in zip(encoded, texts, strict=True):
        words = split_words(text)[-length:]
        if words:
            row[-len(words) :] = [token_ids.get(word, UNKNOWN) for word in words]
    return encoded
