"""The fields of a config that are for texts, and those that are not for them."""

from typing import Any

from train.errors import UserError, short_repr

_LEAST_WORDS, _MOST_WORDS = 3, 2**16  # words' numbers are uint16
_OF_IMAGES = {  # what they must be where the inputs are texts
    "data.pad": 0,
    "data.flip": False,
    "data.image_size": 0,
    "adversary.train": "none",
    "adversary.eval_steps": 0,
}


def check(given: dict[str, Any]) -> None:
    """Checks the fields of a flattened config, whose types and ranges are right.

    Raises:
      UserError: one is for texts and the inputs are images, or the other way round.
    """
    vocabulary, dropout = given["data.vocabulary"], given["model.dropout"]
    if not vocabulary:
        if dropout:
            raise UserError(
                f"config.model.dropout={dropout} is for networks for texts, and "
                f"config.data.vocabulary=0 says that the inputs are images; set it to 0.0"
            )
        return
    if not _LEAST_WORDS <= vocabulary <= _MOST_WORDS:
        raise UserError(
            f"config.data.vocabulary={vocabulary} is not allowed; it must be 0 for images, and for "
            f"texts from {_LEAST_WORDS} to {_MOST_WORDS}: padding, what is unknown, and words"
        )
    if given["data.name"] in ("digits", "folder"):
        raise UserError(
            f"config.data.name={given['data.name']!r} are images, and config.data.vocabulary is "
            "for texts; set it to 0, or name a TFDS set of texts such as 'imdb_reviews/plain_text'"
        )
    for name, allowed in _OF_IMAGES.items():
        if given[name] != allowed:
            raise UserError(
                f"config.{name}={short_repr(given[name])} is for images, and config.data.vocabulary for "
                f"texts; set it to {allowed!r}, or the vocabulary to 0"
            )
