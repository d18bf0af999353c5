"""Recomputes a run's outcomes and indices from its score file and the annotations, sharing no code with the program.

Usage: recompute.py SCORES INSTANCES TAXONOMY RULE     RULE: oracle, k=N or threshold=T
Prints {"counts": ..., "ia": ..., ..., "outcomes": {image id: outcome}}; for a run without fine scores only coarse figures.
"""

import json
import sys

import numpy as np
from safetensors import safe_open

scores_path, instances_path, taxonomy_path, rule = sys.argv[1:]
taxonomy = json.load(open(taxonomy_path))
fine_names = [label["name"] for label in taxonomy["fine"]]
parent = {label["name"]: label.get("parent") for label in taxonomy["fine"]}
instances = json.load(open(instances_path))
category = {entry["id"]: entry["name"] for entry in instances["categories"]}

labels = {}
for annotation in instances["annotations"]:
    labels.setdefault(annotation["image_id"], set()).add(category[annotation["category_id"]])
kept = {}
for image, names in labels.items():
    parents = {parent[name] for name in names} - {None}
    if len(parents) == 1:
        kept[image] = (names, parents.pop())

with safe_open(scores_path, "numpy") as file:
    ids = file.get_tensor("image_ids")
    coarse = file.get_tensor("coarse_logits")
    fine = file.get_tensor("fine_logits") if "fine_logits" in file.keys() else None
    if fine is not None:
        activation = file.metadata()["activation"]
        weight, bias = file.get_tensor("coarse_weight"), file.get_tensor("coarse_bias")
        low, high = file.get_tensor("fine_p05"), file.get_tensor("fine_p95")
        assert (low <= high).all(), "percentiles"
        z = fine.astype(np.float64)
        if activation == "sigmoid":
            p = 1 / (1 + np.exp(-z))
        else:
            e = np.exp(z - z.max(axis=1, keepdims=True))
            p = e / e.sum(axis=1, keepdims=True)
        if file.metadata()["coarse_input"] == "logits":
            p = z
        # Contributions and bias add up to the stored logit: the decision path is exact.
        again = p @ weight.astype(np.float64).T + bias
        scale = 1 + np.abs(coarse).max()
        assert np.abs(again - coarse).max() / scale < 1e-5, np.abs(again - coarse).max()

# The test scores have every kept image; the validation scores a tenth of train.
assert set(ids.tolist()) <= set(kept), "images"
assert rule != "oracle" or len(ids) == len(set(ids.tolist()))


def predicted(row, truth):
    if rule.startswith("threshold="):
        p = 1 / (1 + np.exp(-row.astype(np.float64)))
        return {fine_names[t] for t in np.flatnonzero(p > float(rule[10:]))}
    k = len(truth) if rule == "oracle" else int(rule[2:])
    order = np.argsort(-row, kind="stable")
    return {fine_names[t] for t in order[:k]}


def average_precision(score, positive):
    """Precision at each distinct score, weighted by the rise of recall; None without positives."""
    if not positive.any():
        return None
    taken = score[:, None] <= score[None, :]
    precision = (taken & positive[None, :]).sum(axis=1) / taken.sum(axis=1)
    return float(precision[positive].mean())


counts = {"ftct": 0, "ftcf": 0, "ffct": 0, "ffcf": 0}
outcomes, coarse_right = {}, 0
for row, image in enumerate(ids.tolist()):
    truth, truth_category = kept[image]
    ct = taxonomy["coarse"][int(np.argmax(coarse[row]))] == truth_category
    coarse_right += ct
    if fine is not None:
        ft = predicted(fine[row], truth) == truth
        name = ("ft" if ft else "ff") + ("ct" if ct else "cf")
        counts[name] += 1
        outcomes[image] = name.upper()


def divide(a, b):
    return a / b if b else None


answer = {"images": len(ids), "coarse_accuracy": divide(coarse_right, len(ids))}
if fine is not None:
    ftct, ftcf, ffct = counts["ftct"], counts["ftcf"], counts["ffct"]
    ip, ir = divide(ftct, ftct + ftcf), divide(ftct, ftct + ffct)
    answer |= {"counts": counts, "ia": divide(ftct, len(ids)), "ip": ip, "ir": ir, "outcomes": outcomes}
    answer["if1"] = divide(2 * ip * ir, ip + ir) if ip is not None and ir is not None else None
    answer["fine_exact_match"] = divide(ftct + ftcf, len(ids))
    # By the probability; a sigmoid's logits are in the same order.
    e = np.exp(z - z.max(axis=1, keepdims=True))
    score = z if activation == "sigmoid" else e / e.sum(axis=1, keepdims=True)
    truths = np.array([[name in kept[image][0] for name in fine_names] for image in ids.tolist()])
    answer["average_precision"] = {name: average_precision(score[:, t], truths[:, t]) for t, name in enumerate(fine_names)}
print(json.dumps(answer))
