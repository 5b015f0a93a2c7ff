"""From texts to numbers of words, with a vocabulary of the training texts alone."""

import collections
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from sklearn.feature_extraction.text import CountVectorizer

from train.data.inputs import PADDING

UNKNOWN = 1
FIRST_WORD = 2  # the number of the word that is met most often

# In lower case and without accents; words keep what follows an apostrophe, as in "don't", and
# marks that have a mood count as words. What stands behind < or </ is markup.
PATTERN = r"(?<![<\w])(?<!</)\w+(?:'\w+)*|[!?]"
split_words = CountVectorizer(strip_accents="unicode", token_pattern=PATTERN).build_analyzer()
"""`text -> its words, in order`."""


def vocabulary(texts: Iterable[str], size: int) -> dict[str, int]:
    """The words that are met most often, each with its number.

    Args:
      texts: those to train on.
      size: of all numbers, so that of words there are `size - FIRST_WORD` at most.

    Returns:
      Numbers from `FIRST_WORD` on; of words that are met equally often, the first in the order of
      code points has the lower.
    """
    counts = collections.Counter(word for text in texts for word in split_words(text))
    ranked = sorted(counts, key=lambda word: (-counts[word], word))
    return {word: FIRST_WORD + rank for rank, word in enumerate(ranked[: size - FIRST_WORD])}


def encode(texts: Sequence[str], numbers: Mapping[str, int], length: int) -> np.ndarray:
    """The numbers of each text's last `length` words, behind `PADDING` where it has fewer.

    Returns:
      uint16, (texts, length).
    """
    encoded: np.ndarray = np.full((len(texts), length), PADDING, np.uint16)
    for row, text in zip(encoded, texts, strict=True):
        words = split_words(text)[-length:]
        if words:
            row[-len(words) :] = [numbers.get(word, UNKNOWN) for word in words]
    return encoded
