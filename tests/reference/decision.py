"""Outcomes under every threshold and every k, thresholds tuned for F1, and macro F1 with its difference, from numpy and scikit-learn.

python -P decision.py > decision.json      (pip install scikit-learn; -P, so that no neighbour is taken for a package)
"""

import json

import numpy as np
from sklearn.metrics import f1_score, precision_recall_curve

rng = np.random.default_rng(6)
n, labels, coarse = 160, 7, 3

# Few distinct logits, zeros of either sign among them, so that there are ties.
truth = rng.random((n, labels)) < [0.5, 0.3, 0.1, 0.4, 0.2, 0.05, 0.0]
truth[~truth.any(axis=1), 0] = True
logits = np.round(2.5 * truth + rng.normal(-1, 1.2, (n, labels)), 1).astype(np.float32)
logits[rng.random((n, labels)) < 0.05] = -0.0
category = rng.integers(0, coarse, n)
coarse_logits = np.round(rng.normal(0, 1, (n, coarse)) + 1.2 * (np.arange(coarse) == category[:, None]), 1).astype(np.float32)
right = coarse_logits.argmax(axis=1) == category
p = 1 / (1 + np.exp(-logits.astype(np.float64)))


def counts(predicted):
    fine = (predicted == truth).all(axis=1)
    return [int((fine & right).sum()), int((fine & ~right).sum()), int((~fine & right).sum()), int((~fine & ~right).sum())]


def top(k):
    """The k highest of each image, ties by lower index, +0 before −0 as IEEE 754's total order has it."""
    sign = np.where(np.signbit(logits), 0, 1)
    order = np.lexsort((np.broadcast_to(np.arange(labels), logits.shape), -sign, -logits.astype(np.float64)), axis=1)
    rank = np.argsort(order, axis=1)
    return rank < np.broadcast_to(np.asarray(k), n)[:, None]


def best_f1(label):
    """What the threshold with the highest F1 takes, by scikit-learn's curve; of equals the lowest, which comes first."""
    precision, recall, thresholds = precision_recall_curve(truth[:, label], p[:, label])
    with np.errstate(invalid="ignore"):
        f1 = np.nan_to_num(2 * precision * recall / (precision + recall))[:-1]
    # Rounding must not decide between equals.
    taken = p[:, label] >= thresholds[np.flatnonzero(f1 > f1.max() - 1e-12)[0]]
    return {"f1": f1.max(), "taken": np.flatnonzero(taken).tolist()} if truth[:, label].any() else None


def ends(values):
    return {"low": np.nanquantile(values, 0.025), "high": np.nanquantile(values, 0.975)}


def macro(predicted, rows):
    supported = truth[rows].any(axis=0)
    return f1_score(truth[rows][:, supported], predicted[rows][:, supported], average="macro", zero_division=0)


thresholds = [step / 100 for step in range(101)]
before = p > 0.7
after = p > [0.5, 0.6, 0.3, 0.4, 0.55, 0.35, 0.7]
drawn = rng.integers(0, n, (4000, n))
sample = np.array([[macro(before, rows), macro(after, rows)] for rows in drawn])
value = [macro(before, np.arange(n)), macro(after, np.arange(n))]

print(json.dumps({
    "logits": [[round(float(z), 1) for z in row] for row in logits],
    "truth": [np.flatnonzero(row).tolist() for row in truth],
    "coarse_logits": [[round(float(z), 1) for z in row] for row in coarse_logits],
    "category": category.tolist(),
    "thresholds": thresholds,
    "at_thresholds": [counts(p > threshold) for threshold in thresholds],
    "at_k": [counts(top(k)) for k in range(1, labels + 1)],
    "oracle": counts(top(truth.sum(axis=1))),
    "tuned": [best_f1(label) for label in range(labels)],
    "macro_f1": {
        "thresholds": [0.5, 0.6, 0.3, 0.4, 0.55, 0.35, 0.7],
        "before": {"value": value[0], **ends(sample[:, 0])},
        "after": {"value": value[1], **ends(sample[:, 1])},
        "difference": {"value": value[1] - value[0], **ends(sample[:, 1] - sample[:, 0])},
    },
}))
