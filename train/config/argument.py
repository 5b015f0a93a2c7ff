"""The argument of a config file: `configs/cifar100_gc.py:vgg11,adam`."""

from collections.abc import Collection

from train.errors import UserError, short_repr


def choose(argument: str, **groups: Collection[str]) -> list[str]:
    """One word of each group: the one that the argument has, else the group's first.

    >>> choose("adam", net=("resnet18", "vgg11"), optimizer=("sgdm", "adam"))
    ['resnet18', 'adam']

    Args:
      argument: words between commas, in any order; may be empty.
      **groups: what each is called, and its words, of which no two groups share one.

    Returns:
      The words, in the order of the groups.

    Raises:
      UserError: a word is in no group, or two are in the same.
    """
    chosen: dict[str, str] = {}
    for word in filter(None, argument.split(",")):
        group = next((name for name, words in groups.items() if word in words), None)
        if group is None:
            allowed = "; ".join(f"{name}: {', '.join(words)}" for name, words in groups.items())
            raise UserError(
                f"the config file knows no {short_repr(word)}; of each group it takes one word, with "
                f"commas between them ({allowed})"
            )
        if group in chosen:
            raise UserError(
                f"the config file was given {short_repr(chosen[group])} and {short_repr(word)}, and takes "
                f"one {group}; leave one out"
            )
        chosen[group] = word
    return [chosen.get(name, next(iter(words))) for name, words in groups.items()]
