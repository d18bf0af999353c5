"""Full-sized networks with weights, pixels and results of the Rust test, beside PyTorch's.   python full_size.py FAMILY FILE

Prints, as JSON, how far those are from PyTorch's float64, relative to the L2 norm: the logits of evaluation and, where the
file has gradients, the worst of them.
"""

import json
import sys

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torchvision.models import densenet121, resnet34, vgg16

FINE, COARSE = 5, 3


def efficientnet():
    from efficientnet_lite_pytorch import EfficientNet

    return EfficientNet.from_name("efficientnet-lite0")


class Classifier(torch.nn.Module):
    def __init__(self, family):
        super().__init__()
        full, last = {
            "vgg16": (vgg16, "classifier.6"),
            "resnet34": (resnet34, "fc"),
            "densenet121": (densenet121, "classifier"),
            "efficientnet-lite0": (efficientnet, "_fc"),
        }[family]
        self.backbone = full()
        features = self.backbone.get_submodule(last).in_features
        self.backbone.set_submodule(last, torch.nn.Identity())
        self.fine = torch.nn.Linear(features, FINE)
        self.coarse = torch.nn.Linear(FINE, COARSE)

    def forward(self, x):
        fine = self.fine(self.backbone(x))
        return fine, self.coarse(torch.sigmoid(fine))


def part(prefix):
    return {name.removeprefix(prefix): t for name, t in file.items() if name.startswith(prefix)}


def relative(found, exact):
    return ((found.double() - exact).norm() / exact.norm()).item()


family, path = sys.argv[1:]
file = load_file(path)
model = Classifier(family).double()
counters = {name: t for name, t in model.state_dict().items() if name.endswith("num_batches_tracked")}
heads = ("fine.", "coarse.")
weights = {name if name.startswith(heads) else f"backbone.{name}": t for name, t in part("weights/").items()} | counters
model.load_state_dict(weights)
pixels = file["pixels"].double()
model.eval()
with torch.no_grad():
    result = {name: relative(file[f"eval/{name}"], z) for name, z in zip(["fine", "coarse"], model(pixels))}
gradients = part("grad/")
if gradients:
    model.train()
    fine, coarse = model(pixels)
    targets = torch.tensor([[1, 0, 0, 1, 0], [0, 1, 0, 0, 0.0]]).double()
    loss = F.binary_cross_entropy_with_logits(fine, targets, reduction="sum") / 2
    (loss + F.cross_entropy(coarse, torch.tensor([0, 1]))).backward()
    exact = {name.removeprefix("backbone."): p.grad for name, p in model.named_parameters()}
    assert gradients.keys() == exact.keys()
    result["worst gradient"] = max(relative(gradients[name], t) for name, t in exact.items())
print(json.dumps(result))
