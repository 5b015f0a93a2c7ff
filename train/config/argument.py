"""The argument of a config file: `configs/cifar100_gc.py:vgg11,adam`."""

from collections.abc import Collection

from train.errors import UserError, short_repr


def parse_config_argument(argument: str, **groups: Collection[str]) -> list[str]:
    """Return one word of each group: the word in the argument, else the first of the group.

    >>> nets, optimizers = ("resnet18", "vgg11"), ("sgdm", "adam")
    >>> parse_config_argument("adam", net=nets, optimizer=optimizers)
    ['resnet18', 'adam']

    Args:
      argument: Words separated by commas, in any order; may be empty.
      **groups: The words of each group; no word is in two groups.

    Returns:
      The words, in the order of the groups.

    Raises:
      UserError: If a word is in no group, or two words are in the same group.
    """
    chosen: dict[str, str] = {}
    for word in filter(None, argument.split(",")):
        group = next((name for name, words in groups.items() if word in words), None)
        if group is None:
            allowed = "; ".join(f"{name}: {', '.join(words)}" for name, words in groups.items())
            raise UserError(
                f"unknown config argument {short_repr(word)}; give at most one word of each group, "
                f"separated by commas ({allowed})"
            )
        if group in chosen:
            raise UserError(
                f"config arguments {short_repr(chosen[group])} and {short_repr(word)} are both a "
                f"{group}; leave one out"
            )
        chosen[group] = word
    return [chosen.get(name, next(iter(words))) for name, words in groups.items()]
