"""Weights after each of four steps on 0.5 * sum(c * w^2) in PyTorch, float64.   python optimizers.py > optimizers.json"""

import itertools
import json

import torch

torch.set_default_dtype(torch.float64)
# A weight [2, 2] and a bias [2], one after the other.
START, CURVATURE, RATES = [1.0, -2.0, 0.5, 3.0, 0.7, -1.5], [1.0, 0.1, 3.0, 0.5, 2.0, 0.2], [0.1, 0.2, 0.1, 0.05]
DECAY = 0.01
# The first steps have larger gradients, the last ones smaller.
CLIP = 2.0


def path(settings):
    start, curvature = torch.tensor(START), torch.tensor(CURVATURE)
    weight, bias = start[:4].reshape(2, 2).clone().requires_grad_(), start[4:].clone().requires_grad_()
    bias_decay = DECAY if settings["decay_biases_and_norms"] else 0
    groups = [{"params": [weight], "weight_decay": DECAY}, {"params": [bias], "weight_decay": bias_decay}]
    if settings["optimizer"] == "adamw":
        optimizer = torch.optim.AdamW(groups, lr=1, betas=(0.9, 0.999))
    else:
        optimizer = torch.optim.SGD(groups, lr=1, momentum=0.9, nesterov=settings["nesterov"])
    seen, norms = [], []
    for rate in RATES:
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.zero_grad()
        (0.5 * (curvature * torch.cat([weight.flatten(), bias]) ** 2).sum()).backward()
        if "clip_norm" in settings:
            norms.append(torch.nn.utils.clip_grad_norm_([weight, bias], settings["clip_norm"]).item())
        optimizer.step()
        seen.append(torch.cat([weight.flatten(), bias]).tolist())
    assert not norms or max(norms) > CLIP > min(norms), norms
    return seen


cases = []
for (optimizer, nesterov), decay, clip in itertools.product(
    [("sgd", False), ("sgd", True), ("adamw", False)], [True, False], [{}, {"clip_norm": CLIP}]
):
    settings = {"optimizer": optimizer, "nesterov": nesterov, "decay_biases_and_norms": decay, **clip}
    cases.append({"settings": {"momentum": 0.9, "weight_decay": DECAY, **settings}, "steps": path(settings)})
print(json.dumps({"start": START, "curvature": CURVATURE, "rates": RATES, "cases": cases}))
