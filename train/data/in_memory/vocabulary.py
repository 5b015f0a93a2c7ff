"""Texts as token ids, with a vocabulary of the most frequent words of the training texts."""

import collections
from collections.abc import Iterable, Sequence

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


def build_vocabulary(texts: Iterable[str], size: int) -> list[str]:
    """Return the most frequent words.

    Args:
      texts: The training texts.
      size: The number of token ids, including those of padding and unknown words; so there are at
        most `size - FIRST_WORD` words.

    Returns:
      The words in order of decreasing frequency; the token id of the first one is `FIRST_WORD`.
      Words with the same frequency are in the order of their code points.
    """
    counts = collections.Counter(word for text in texts for word in split_words(text))
    ranked = sorted(counts, key=lambda word: (-counts[word], word))
    return ranked[: size - FIRST_WORD]


def encode(texts: Sequence[str], words: Sequence[str], length: int) -> np.ndarray:
    """Return the token ids of the last `length` words of each text, padded in front.

    Args:
      texts: The texts.
      words: The words of `build_vocabulary`.
      length: The number of token ids of each text.

    Returns:
      uint16, (texts, length).
    """
    token_ids = {word: FIRST_WORD + rank for rank, word in enumerate(words)}
    encoded: np.ndarray = np.full((len(texts), length), PADDING, np.uint16)
    for row, text in zip(encoded, texts, strict=True):
        last = split_words(text)[-length:]
        if last:
            row[-len(last) :] = [token_ids.get(word, UNKNOWN) for word in last]
    return encoded
