"""Curves of precision and recall, calibration and confusion of small data, from scikit-learn.

python classes.py > classes.json      (pip install scikit-learn)
"""

import json

import numpy as np
from sklearn.calibration import calibration_curve
from sklearn.metrics import average_precision_score, confusion_matrix, precision_recall_curve, precision_recall_fscore_support

rng = np.random.default_rng(6)
n = 90


def curve(score, positive):
    """Points from the lowest threshold, which takes everything, to the start, which takes nothing and has no threshold."""
    precision, recall, threshold = precision_recall_curve(positive, score)
    return {"score": score.tolist(), "positive": positive.astype(int).tolist(), "precision": precision.tolist(), "recall": recall.tolist(),
            "threshold": threshold.tolist(), "average_precision": average_precision_score(positive, score)}


positive = rng.random(n) < 0.3
# Rounded, so that there are ties; and one where the highest scores are wrong.
curves = [curve(np.round(2 * positive + rng.normal(size=n), 1), positive), curve(np.round(rng.random(n), 2) - positive, positive)]

probability = np.concatenate([np.round(rng.random(n), 3), [0, 0.2, 0.4, 0.6, 0.8, 1]])
true = rng.random(len(probability)) < probability ** 2
# Bins are (a, b], with 0 in the first; those without images are left out.
share, mean = calibration_curve(true, probability, n_bins=15, strategy="uniform")
bins = np.searchsorted(np.linspace(0, 1, 16)[1:-1], probability)
images = np.bincount(bins, minlength=15)
calibration = {"probability": probability.tolist(), "true": true.astype(int).tolist(), "images": images.tolist(), "share": share.tolist(),
               "mean": mean.tolist(), "ece": float(np.sum(np.abs(share - mean) * images[images > 0]) / len(probability))}

# Category 3 never occurs, 4 is never predicted.
truth = rng.choice([0, 1, 2, 4], n)
predicted = np.where(rng.random(n) < 0.6, truth, rng.integers(0, 4, n))
predicted[predicted == 4] = 0
scores = precision_recall_fscore_support(truth, predicted, labels=range(5), zero_division=np.nan)
confusion = {"truth": truth.tolist(), "predicted": predicted.tolist(), "matrix": confusion_matrix(truth, predicted, labels=range(5)).tolist(),
             **{name: [None if np.isnan(value) else float(value) for value in values] for name, values in zip(("precision", "recall", "f1", "support"), scores)}}

print(json.dumps({"curves": curves, "calibration": calibration, "confusion": confusion}))
