"""A variable after each of four steps on 0.5 * sum(c * w^2) in PyTorch, float64.   python optimizers.py > optimizers.json"""

import json

import torch

torch.set_default_dtype(torch.float64)
START, CURVATURE, RATES = [1.0, -2.0, 0.5], [1.0, 0.1, 3.0], [0.1, 0.2, 0.1, 0.05]


def path(make):
    w = torch.tensor(START, requires_grad=True)
    optimizer, seen = make([w]), []
    for rate in RATES:
        optimizer.param_groups[0]["lr"] = rate
        optimizer.zero_grad()
        (0.5 * (torch.tensor(CURVATURE) * w * w).sum()).backward()
        optimizer.step()
        seen.append(w.detach().tolist())
    return seen


print(json.dumps({
    "sgd": path(lambda w: torch.optim.SGD(w, lr=1, momentum=0.9, weight_decay=0.01)),
    "adamw": path(lambda w: torch.optim.AdamW(w, lr=1, betas=(0.9, 0.999), weight_decay=0.01)),
}))
