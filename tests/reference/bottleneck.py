"""Interventions, lookup baseline, consistency and completeness of small score files, from numpy.

python bottleneck.py > bottleneck.json
"""

import itertools
import json

import numpy as np

rng = np.random.default_rng(6)
N, LABELS = 40, 9
# The group of each label: its category, and 3 for the public ones. Not in order, on purpose.
GROUP = np.array([0, 1, 0, 3, 2, 1, 0, 2, 3])
GROUPS, CATEGORIES, PUBLIC = 4, 3, 3


def softmax(z):
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def case(activation, reads):
    category = rng.integers(0, CATEGORIES, N)
    truth = np.zeros((N, LABELS), bool)
    for image in range(N):
        own = np.flatnonzero(GROUP == category[image])
        truth[image, rng.choice(own, rng.integers(1, len(own) + 1), replace=False)] = True
        truth[image, GROUP == PUBLIC] = rng.random(2) < 0.4
    z = (rng.normal(0, 2, (N, LABELS)) + np.where(truth, 1.5, -1.5)).astype(np.float32)
    # Weights that half follow the taxonomy, so that correction helps and does not always help.
    weight = (rng.normal(0, 1, (CATEGORIES, LABELS)) + 1.2 * (GROUP[None] == np.arange(CATEGORIES)[:, None])).astype(np.float32)
    bias = rng.normal(0, 0.3, CATEGORIES).astype(np.float32)
    p = softmax(z.astype(np.float64)) if activation == "softmax" else 1 / (1 + np.exp(-z.astype(np.float64)))
    x = z.astype(np.float64) if reads == "logits" else p
    coarse = (x @ weight.astype(np.float64).T + bias).astype(np.float32)
    p05, p95 = np.percentile(z, [5, 95], axis=0).astype(np.float32)
    if reads == "logits":
        target = np.where(truth, p95, p05).astype(np.float64)
    elif activation == "sigmoid":
        target = truth.astype(np.float64)
    else:
        target = truth / truth.sum(axis=1, keepdims=True)

    def decided(image, corrected):
        """The category with some groups corrected: all is computed anew, nothing is added up."""
        mixed = np.where(np.isin(GROUP, corrected), target[image], x[image])
        return np.argmax(weight.astype(np.float64) @ mixed + bias) == category[image]

    def curve(order_of):
        return [int(sum(decided(image, order_of(image)[:n]) for image in range(N))) for n in range(GROUPS + 1)]

    groups = range(GROUPS)
    error = [[np.abs(x - target)[image, GROUP == group].sum() for group in groups] for image in range(N)]
    doubt = [[np.abs(p - 0.5)[image, GROUP == group].min() for group in groups] for image in range(N)]
    orders = list(itertools.permutations(groups))
    expected = np.mean([curve(lambda image: order) for order in orders], axis=0) / N

    # The rule: p > 0.5 or the three highest scores.
    predicted = p > 0.5 if activation == "sigmoid" else np.argsort(np.argsort(-z, axis=1), axis=1) < 3
    chosen = np.argmax(coarse, axis=1)
    reading, consistent = [], []
    for image in range(N):
        votes = [(predicted[image] & (GROUP == group)).sum() for group in range(CATEGORIES)]
        sums = [p[image, predicted[image] & (GROUP == group)].sum() for group in range(CATEGORIES)]
        best = max(range(CATEGORIES), key=lambda group: (votes[group], sums[group], -group))
        reading.append(best if votes[best] > 0 else None)
        consistent.append([int(votes[chosen[image]]), int(sum(votes))])
    counts = np.array(consistent)
    drawn = rng.integers(0, N, (40_000, N))
    shares = counts[drawn].sum(axis=1)

    # A coarse-only run that is right on about 80% of the images.
    right, other = chosen == category, rng.random(N) < 0.8
    majority = np.bincount(category).max() / N
    b, a = right[drawn].mean(axis=1) - majority, other[drawn].mean(axis=1) - majority
    complete = (b / a)[a > 1e-9]
    ends = lambda values: dict(zip(("low", "high"), np.percentile(values, [2.5, 97.5])))
    return {
        "activation": activation, "reads": reads, "category": category.tolist(),
        "truth": [np.flatnonzero(row).tolist() for row in truth],
        "z": z.tolist(), "coarse": coarse.tolist(), "weight": weight.tolist(), "bias": bias.tolist(),
        "p05": p05.tolist(), "p95": p95.tolist(),
        "largest_error": curve(lambda image: np.argsort(-np.array(error[image]), kind="stable")),
        "most_uncertain": curve(lambda image: np.argsort(doubt[image], kind="stable")) if activation == "sigmoid" else None,
        "expected": expected.tolist(),
        "reading": reading, "consistent": consistent,
        "consistency": {"value": counts[:, 0].sum() / counts[:, 1].sum(), **ends(shares[:, 0] / shares[:, 1])},
        "coarse_only": other.tolist(), "majority": majority,
        "completeness": {"value": (right.mean() - majority) / (other.mean() - majority), **ends(complete), "dropped": 1 - len(complete) / len(drawn)},
    }


print(json.dumps([case(activation, reads) for activation in ("sigmoid", "softmax") for reads in ("probabilities", "logits")]))
