"""Values and gradients of the losses from PyTorch in float64.   python losses.py > losses.json"""

import json

import torch
import torch.nn.functional as F

torch.set_default_dtype(torch.float64)
N, FINE, COARSE = 4, 5, 3
LOGITS = 3 * torch.sin(1.7 * torch.arange(N * FINE) + 0.3).reshape(N, FINE)
# No true label, one, several, all.
TARGETS = torch.tensor([[0, 0, 0, 0, 0], [0, 1, 0, 0, 0], [1, 0, 0, 1, 0], [1, 1, 1, 1, 1.0]])
CATEGORIES = torch.tensor([2, 0, 1, 1])
# Saturated on the right side and on the wrong side.
EXTREME = torch.tensor([[1e4, -1e4, 0, 0, 0], [-1e4, 1e4, 0, 0, 0], [1e4, 1e4, -1e4, 1e4, -1e4], [0, 0, 1e4, -1e4, 0.0]])


# One α per fine label.
SAME, VARIOUS = [1.0] * FINE, [2.0, 0.25, 1.0, 0.5, 3.0]


def focal(alpha, gamma):
    alpha = torch.tensor(alpha)

    def loss(z):
        log_p = F.log_softmax(z, dim=1)
        return -(alpha * (1 - log_p.exp()) ** gamma * log_p * TARGETS).sum() / N

    return loss


def bce(z):
    return F.binary_cross_entropy_with_logits(z, TARGETS, reduction="sum") / N


def ce(z):
    return F.cross_entropy(z[:, :COARSE], CATEGORIES)


def case(name, loss, logits, **settings):
    z = logits.clone().requires_grad_()
    value = loss(z)
    value.backward()
    return {"name": name, **settings, "logits": logits.flatten().tolist(), "value": value.item(), "grad": z.grad.flatten().tolist()}


cases = []
for alpha, gamma in [(SAME, 2.0), ([0.25] * FINE, 0.5), (SAME, 0.0), ([2.0] * FINE, 1.0), (VARIOUS, 2.0), (VARIOUS, 0.0)]:
    cases.append(case("focal", focal(alpha, gamma), LOGITS, alpha=alpha, gamma=gamma))
for alpha in (SAME, VARIOUS):
    cases.append(case("focal", focal(alpha, 2.0), EXTREME, alpha=alpha, gamma=2.0))
for logits in (LOGITS, EXTREME):
    cases.append(case("bce", bce, logits))
    cases.append(case("ce", ce, logits))
print(json.dumps({"targets": TARGETS.flatten().tolist(), "categories": CATEGORIES.tolist(), "cases": cases}))
