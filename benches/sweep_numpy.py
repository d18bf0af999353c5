"""The peer of `benches/sweep.rs` in numpy: counts of the four outcomes at 101 thresholds.   sweep_numpy.py [ROUNDS]

Twice: threshold by threshold, as the definition has it, and by the lowest true and the highest other score of each image, as
`analysis::sweep` does it. Both are checked against each other. Medians.
"""

import sys
import time

import numpy as np

images, labels, categories, rounds = 100_000, 80, 11, int(sys.argv[1]) if len(sys.argv) > 1 else 5
rng = np.random.default_rng(0)
truth = np.zeros((images, labels), bool)
for row, count in zip(truth, rng.integers(1, 6, images)):
    row[rng.integers(0, labels, count)] = True
logits = (rng.random((images, labels), np.float32) * 4 - 5 + 4.5 * truth).astype(np.float32)
coarse = rng.random((images, categories), np.float32)
category = np.arange(images) % categories
thresholds = np.arange(101) / 100


def table(fine, right):
    """`[steps, 4]` from whether fine labels are right at each step, counted with the category wrong and right."""
    all_right = right.sum()
    return np.stack([fine[1], fine[0], all_right - fine[1], len(right) - all_right - fine[0]], axis=1)


def by_definition():
    right = coarse.argmax(1) == category
    p = 1 / (1 + np.exp(-logits.astype(np.float64)))
    fine = [((p > threshold) == truth).all(1) for threshold in thresholds]
    return table(np.array([[(step & ~right).sum() for step in fine], [(step & right).sum() for step in fine]]), right)


def by_separation():
    right = coarse.argmax(1) == category
    low = np.where(truth, logits, np.inf).min(1).astype(np.float64)
    high = np.where(truth, -np.inf, logits).max(1).astype(np.float64)
    low, high = (1 / (1 + np.exp(-value)) for value in (low, high))
    parted = high < low
    fine = []
    for kind in (parted & ~right, parted & right):
        # Right from the first threshold that is not below `high` up to the last one below `low`.
        begins, ends = np.sort(high[kind]), np.sort(low[kind])
        fine.append(np.searchsorted(begins, thresholds, "right") - np.searchsorted(ends, thresholds, "right"))
    return table(np.array(fine), right)


assert (by_definition() == by_separation()).all()
for function in (by_definition, by_separation):
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    print(f"{function.__name__:14} {np.median(times) * 1e3:9.1f} ms", flush=True)
