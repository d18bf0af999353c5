"""Recomputes a run's outcomes and indices from its score file and the annotations, sharing no code with the program.

Usage: recompute.py SCORES INSTANCES TAXONOMY RULE     RULE: oracle, k=N or threshold=T
Prints {"counts": ..., "ia": ..., ..., "outcomes": {image id: outcome}, "labels": {name: ...}, "categories": {name: ...}}; for a
run without fine scores only coarse figures.
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


def ranked(score, positive):
    """The curve of precision and recall by its definition: what is taken at each distinct score; None without positives."""
    if not positive.any():
        return None
    points = []
    for threshold in sorted(set(score.tolist()), reverse=True):
        taken = score >= threshold
        right = (taken & positive).sum()
        points.append([float(right / taken.sum()), float(right / positive.sum()), float(2 * right / (taken.sum() + positive.sum()))])
    reached = [next(point for point in points if point[1] >= tenths / 10) for tenths in range(1, 11)]
    return {"points": len(points) + 1, "at_recall": reached, "best_f1": max(point[2] for point in points)}


def calibration(probability, true):
    """Expected calibration error and images of 15 equal bins (a, b], 0 in the first."""
    bins = np.maximum(np.searchsorted(np.arange(16) / 15, probability, side="left") - 1, 0)
    gaps = [abs(true[bins == b].mean() - probability[bins == b].mean()) * (bins == b).mean() for b in set(bins.tolist())]
    return {"ece": float(sum(gaps)), "images": np.bincount(bins, minlength=15).tolist()}


def companions(chosen, listed, own):
    """Of each label but `own`: chosen images that list it, their share, and that over the share of all images."""
    found = {}
    for t, name in enumerate(fine_names):
        images = int((chosen & listed[:, t]).sum())
        if t != own and images:
            found[name] = [images, images / int(chosen.sum()), images / int(chosen.sum()) / float(listed[:, t].mean())]
    return found


def against_the_rest(score, probability, true, said):
    return {
        "support": int(true.sum()), "predicted": int(said.sum()), "correct": int((true & said).sum()),
        "average_precision": average_precision(score, true), "curve": ranked(score, true),
        "missed": sorted(probability[true & ~said].tolist())[:8],
        "extra": sorted(probability[said & ~true].tolist(), reverse=True)[:8],
    }


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


e = np.exp(coarse.astype(np.float64) - coarse.max(axis=1, keepdims=True))
q = e / e.sum(axis=1, keepdims=True)
true_category = np.array([taxonomy["coarse"].index(kept[image][1]) for image in ids.tolist()])
said_category = coarse.argmax(axis=1)
categories = {}
for m, name in enumerate(taxonomy["coarse"]):
    true, said = true_category == m, said_category == m
    categories[name] = against_the_rest(q[:, m], q[:, m], true, said) | {"calibration": calibration(q[:, m], true)}
    categories[name]["row"] = [int((true & (said_category == other)).sum()) for other in range(len(taxonomy["coarse"]))]
    categories[name]["outcomes"] = {code: sum(outcomes.get(image) == code.upper() for image in ids[true].tolist()) for code in counts}
    if fine is not None:
        categories[name]["evidence"] = {
            label: [float((p[rows, t] * weight[m, t].astype(np.float64)).mean()) if rows.any() else None for rows in (said, true & ~said)]
            for t, label in enumerate(fine_names)
        }
        categories[name]["logit"] = [float(coarse[rows, m].mean(dtype=np.float64)) if rows.any() else None for rows in (said, true & ~said)]

answer = {"images": len(ids), "categories": categories, "calibration": calibration(q.max(axis=1), true_category == said_category), "coarse_accuracy": divide(coarse_right, len(ids))}
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
    taken = [predicted(fine[row], kept[image][0]) for row, image in enumerate(ids.tolist())]
    said = np.array([[name in names for name in fine_names] for names in taken])
    probability = 1 / (1 + np.exp(-z)) if activation == "sigmoid" else score
    answer["labels"] = {}
    for t, name in enumerate(fine_names):
        true, taken = truths[:, t], said[:, t]
        answer["labels"][name] = against_the_rest(score[:, t], probability[:, t], true, taken) | {
            "calibration": calibration(probability[:, t], true) if activation == "sigmoid" else None,
            "truly_with": companions(true, truths, t),
            "predicted_with": companions(taken, said, t),
            "missed_for": companions(true & ~taken, said & ~truths, t),
            "extra_beside": companions(taken & ~true, truths, t),
        }
print(json.dumps(answer))
