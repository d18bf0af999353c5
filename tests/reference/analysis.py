"""McNemar's test, paired differences and figures per label from statsmodels, numpy and scikit-learn.

python analysis.py > analysis.json      (pip install scikit-learn statsmodels)
"""

import json

import numpy as np
from sklearn.metrics import average_precision_score, precision_recall_fscore_support
from statsmodels.stats.contingency_tables import mcnemar

rng = np.random.default_rng(0)


def ends(values):
    """The middle 95%, and how many values are not defined."""
    return {"low": np.nanquantile(values, 0.025), "high": np.nanquantile(values, 0.975), "dropped": int(np.isnan(values).sum())}


def mcnemar_case(only_a, only_b):
    exact = only_a + only_b < 25
    result = mcnemar([[40, only_a], [only_b, 7]], exact=exact, correction=True)
    return {"only_a": only_a, "only_b": only_b, "exact": exact, "statistic": None if exact else result.statistic, "p": result.pvalue}


def figures(outcomes):
    """IA, IP, IR, IF1, coarse accuracy, fine exact match of outcomes along the last axis: 0 FTCT, 1 FTCF, 2 FFCT, 3 FFCF."""
    ftct, ftcf, ffct, _ = (np.sum(outcomes == outcome, axis=-1) for outcome in range(4))
    n = outcomes.shape[-1]
    with np.errstate(invalid="ignore", divide="ignore"):
        ip, ir = ftct / (ftct + ftcf), ftct / (ftct + ffct)
        return np.array([ftct / n, ip, ir, 2 * ip * ir / (ip + ir), (ftct + ffct) / n, (ftct + ftcf) / n])


def difference_case(cells):
    """Images are resampled one by one, each with both of its outcomes."""
    a, b = np.divmod(np.repeat(np.arange(16), cells), 4)
    drawn = rng.integers(0, len(a), (40_000, len(a)))
    values, resampled = figures(b) - figures(a), figures(b[drawn]) - figures(a[drawn])
    return {"cells": cells, "figures": [{"value": value, **ends(sample)} for value, sample in zip(values, resampled)]}


def label_case():
    """Coarse scores, so that there are ties; the last label is never true, the one before it never predicted."""
    n, labels, resamples = 120, 6, 4_000
    truth = rng.random((n, labels)) < [0.5, 0.2, 0.05, 0.3, 0.1, 0.0]
    score = np.round(2 * truth + rng.normal(0, [1, 1, 1, 4, 1, 1], (n, labels)), 1)
    predicted = score > [1, 1, 1, 1, 99, 1]
    supported = [label for label in range(labels) if truth[:, label].any()]

    def each(rows):
        return [average_precision_score(truth[rows, label], score[rows, label]) if truth[rows, label].any() else np.nan for label in supported]

    def pooled(rows):
        return average_precision_score(truth[rows][:, supported], score[rows][:, supported], average="micro")

    all_rows = np.arange(n)
    drawn = rng.integers(0, n, (resamples, n))
    sample = np.array([each(rows) for rows in drawn])
    precision, recall, f1, support = precision_recall_fscore_support(truth, predicted, zero_division=np.nan)
    averages = {
        average: precision_recall_fscore_support(truth, predicted, labels=supported, average=average, zero_division=np.nan)[:3]
        for average in ("macro", "micro")
    }
    # A label with images that is never predicted has recall 0 and F1 0, but no precision.
    return {
        "scores": score.T.tolist(),
        "truth": truth.T.astype(int).tolist(),
        "predicted": predicted.T.astype(int).tolist(),
        "labels": [
            {"support": int(support[label]), "precision": precision[label], "recall": recall[label], "f1": f1[label],
             "average_precision": {"value": each(all_rows)[supported.index(label)], **ends(sample[:, supported.index(label)])} if label in supported else None}
            for label in range(labels)
        ],
        "macro": {**dict(zip(("precision", "recall", "f1"), averages["macro"])),
                  "average_precision": {"value": np.mean(each(all_rows)), **ends(np.nanmean(sample, axis=1))}},
        "micro": {**dict(zip(("precision", "recall", "f1"), averages["micro"])),
                  "average_precision": {"value": pooled(all_rows), **ends(np.array([pooled(rows) for rows in drawn]))}},
    }


def plain(value):
    """NaN is null in JSON."""
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, (float, np.floating)):
        return None if np.isnan(value) else float(value)
    return value


print(json.dumps(plain({
    "mcnemar": [mcnemar_case(*pair) for pair in [(0, 0), (1, 0), (3, 3), (12, 2), (2, 22), (0, 24), (20, 5), (12, 13), (30, 30), (10, 45), (210, 164)]],
    "differences": [
        difference_case([60, 2, 20, 5, 3, 1, 0, 2, 40, 1, 90, 12, 8, 3, 15, 38]),
        difference_case([1, 0, 2, 1, 0, 0, 1, 0, 2, 1, 9, 4, 1, 0, 4, 4]),
    ],
    "labels": label_case(),
})))
