"""The outputs of a classifier, and the metrics of each class."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np


class Predictions(NamedTuple):
    """The outputs for some examples.

    Attributes:
      logits: float32, (examples, classes).
      labels: int32, (examples,).
    """

    logits: Any
    labels: Any


def per_class_metrics(predictions: Predictions, names: Sequence[str]) -> list[dict[str, Any]]:
    """Return precision, recall and area under the ROC curve (AUC) of each class, one vs. rest.

    The predicted class has the largest logit; of equal logits, the first. An example with a
    non-finite logit has no predicted class. AUC is computed from the probability of the class.
    Undefined values are None: the precision of a class that is never predicted, the recall of a
    class without examples, and the AUC of a class with no or all examples or if any logit is not
    finite.

    Args:
      predictions: The predictions for the whole split.
      names: The class names; the class numbers are used if empty.

    Returns:
      One dict per class, with `class`, `precision`, `recall`, `auc` and `examples` (a count).
    """
    # Imported here because it takes a second and few runs need it.
    from scipy.special import log_softmax
    from sklearn.metrics import precision_recall_fscore_support

    labels, num_classes = predictions.labels, predictions.logits.shape[1]
    finite = np.isfinite(predictions.logits).all(axis=1)
    predicted = np.where(finite, predictions.logits.argmax(axis=1), -1)
    precision, recall, _, examples = precision_recall_fscore_support(
        labels, predicted, labels=range(num_classes), zero_division=np.nan
    )
    scores = log_softmax(predictions.logits.astype(np.float64), axis=1) if finite.all() else None
    return [
        {
            "class": names[index] if names else index,
            "precision": _nan_to_none(precision[index]),
            "recall": _nan_to_none(recall[index]),
            "auc": None if scores is None else _auc(labels == index, scores[:, index]),
            "examples": int(examples[index]),
        }
        for index in range(num_classes)
    ]


def confusion_matrix(predictions: Predictions) -> np.ndarray:
    """Return the number of examples by class and predicted class: int, (classes, classes).

    An example with a non-finite logit has no predicted class and is left out.
    """
    num_classes = predictions.logits.shape[1]
    finite = np.isfinite(predictions.logits).all(axis=1)
    predicted = predictions.logits.argmax(axis=1)
    pairs = predictions.labels * num_classes + predicted
    counts = np.bincount(pairs[finite], minlength=num_classes**2)
    return counts.reshape(num_classes, num_classes)


def _auc(is_class: np.ndarray, scores: np.ndarray) -> float | None:
    if is_class.all() or not is_class.any():
        return None
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(is_class, scores))


def _nan_to_none(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
