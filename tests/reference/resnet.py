"""torchvision's residual network as the backbone of a two-level classifier, float64.   python resnet.py > resnet.json

Weights and pixels come from formulas that the Rust test repeats, so no weights are stored. `names` are the tensors of
torchvision's resnet34 without its last layer.
"""

import json

import torch
import torch.nn.functional as F
from torchvision.models import resnet34
from torchvision.models.resnet import BasicBlock, ResNet

torch.set_default_dtype(torch.float64)
N, SIDE, FINE, COARSE = 3, 64, 5, 3


def noise(count, stream):
    """Numbers in [-1, 1) from integers alone, so that any language gets the same."""
    k = torch.arange(count, dtype=torch.int64)
    h = (k * k + 3 * k + 7919 * stream) % 2**32 * 2654435761 % 2**32
    return h / 2**31 - 1


class Classifier(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = ResNet(BasicBlock, [1, 1, 1, 1])
        self.backbone.fc = torch.nn.Identity()
        self.fine = torch.nn.Linear(512, FINE)
        self.coarse = torch.nn.Linear(FINE, COARSE)

    def forward(self, x):
        fine = self.fine(self.backbone(x))
        return fine, self.coarse(torch.sigmoid(fine))


model = Classifier()
tensors = {name.removeprefix("backbone."): t for name, t in model.state_dict().items() if not name.endswith("num_batches_tracked")}
for index, (name, t) in enumerate(sorted(tensors.items())):
    values = noise(t.numel(), index).reshape(t.shape)
    if t.dim() == 4:
        values = values * (6 / (t.shape[0] * t.shape[2] * t.shape[3])) ** 0.5
    elif t.dim() == 2:
        values = values * 0.1
    elif name.endswith("running_var") or ("bn" in name or "downsample.1" in name) and name.endswith("weight"):
        values = 1 + 0.1 * values
    else:
        values = 0.1 * values
    t.copy_(values)

pixels = noise(N * 3 * SIDE * SIDE, 1000).reshape(N, 3, SIDE, SIDE)
targets = torch.tensor([[1, 0, 0, 1, 0], [0, 1, 0, 0, 0], [0, 0, 0, 0, 1.0]])
categories = torch.tensor([0, 1, 2])

result = {}
with torch.no_grad():
    model.eval()
    fine, coarse = model(pixels)
    result["eval"] = {"fine": fine.flatten().tolist(), "coarse": coarse.flatten().tolist()}
model.train()
fine, coarse = model(pixels)
loss = F.binary_cross_entropy_with_logits(fine, targets, reduction="sum") / N + F.cross_entropy(coarse, categories)
loss.backward()
result["train"] = {"fine": fine.flatten().tolist(), "coarse": coarse.flatten().tolist(), "loss": loss.item()}
result["grad_norms"] = {name.removeprefix("backbone."): p.grad.norm().item() for name, p in model.named_parameters()}
result["running_norms"] = {name: t.norm().item() for name, t in sorted(tensors.items()) if "running" in name}
result["names"] = {
    name: list(t.shape)
    for name, t in resnet34().state_dict().items()
    if not name.endswith("num_batches_tracked") and not name.startswith("fc.")
}
print(json.dumps(result))
