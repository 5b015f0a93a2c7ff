"""How well each class is told from all others, read off the predictions of the whole test split."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from train.engine.step import BatchPredictions


class Predictions(NamedTuple):
    """What a network answers to a split, on the host, in the split's order."""

    logits: np.ndarray  # float32, (examples, classes)
    labels: np.ndarray  # int32, (examples,)


def on_host(batches: Iterable[BatchPredictions]) -> Predictions:
    """The answers to the batches of a split, without their padding.

    Each batch is read before the next one is sent, so that two programs never run at once.

    Args:
      batches: whole on each process.
    """
    of_batches = []
    for batch in batches:
        logits, labels, mask = jax.device_get(batch)
        of_batches.append(Predictions(logits[mask], labels[mask]))
    return Predictions(*map(np.concatenate, zip(*of_batches, strict=True)))


def figures(predictions: Predictions, names: Sequence[str]) -> list[dict[str, Any]]:
    """Precision, recall and the area under the ROC curve (AUC) of each class against the rest.

    The class that is predicted is the one with the largest logit, of equals the first; where a
    logit is not finite, none is. AUC is of the class's probability. What is not defined is None:
    the precision of a class that is never predicted, the recall of one that has no example, and
    the AUC of one that has none, or all of them, or where a logit is not finite.

    Args:
      predictions: of the whole split.
      names: of the classes; their numbers if empty.

    Returns:
      For each class `class`, `precision`, `recall`, `auc` and `examples`, how many it has.
    """
    # They take a second to import, and few runs need them.
    from scipy.special import log_softmax
    from sklearn.metrics import precision_recall_fscore_support

    labels, count = predictions.labels, predictions.logits.shape[1]
    finite = np.isfinite(predictions.logits).all(axis=1)
    predicted = np.where(finite, predictions.logits.argmax(axis=1), -1)
    precision, recall, _, examples = precision_recall_fscore_support(
        labels, predicted, labels=range(count), zero_division=np.nan
    )
    scores = log_softmax(predictions.logits.astype(np.float64), axis=1) if finite.all() else None
    return [
        {
            "class": names[index] if names else index,
            "precision": _defined(precision[index]),
            "recall": _defined(recall[index]),
            "auc": None if scores is None else _auc(labels == index, scores[:, index]),
            "examples": int(examples[index]),
        }
        for index in range(count)
    ]


def _auc(is_class: np.ndarray, scores: np.ndarray) -> float | None:
    if is_class.all() or not is_class.any():
        return None
    from sklearn.metrics import roc_auc_score  # as above

    return float(roc_auc_score(is_class, scores))


def _defined(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
