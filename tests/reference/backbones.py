"""torchvision's networks as the backbone of a two-level classifier, float64.   python backbones.py > backbones.json

Small configurations; weights and pixels come from formulas that the Rust test repeats, so no weights are stored. `names`
are the tensors of torchvision's full-sized network of the same family without its last layer.
"""

import json
from collections import OrderedDict

import torch
import torch.nn.functional as F
from torchvision.models import densenet121, resnet34, vgg16, vgg16_bn
from torchvision.models.densenet import DenseNet
from torchvision.models.resnet import BasicBlock, ResNet
from torchvision.models.vgg import VGG, make_layers

torch.set_default_dtype(torch.float64)
N, FINE, COARSE = 3, 5, 3


def noise(count, stream):
    """Numbers in [-1, 1) from integers alone, so that any language gets the same."""
    k = torch.arange(count, dtype=torch.int64)
    h = (k * k + 3 * k + 7919 * stream) % 2**32 * 2654435761 % 2**32
    return h / 2**31 - 1


class Classifier(torch.nn.Module):
    def __init__(self, backbone, features):
        super().__init__()
        self.backbone = backbone
        self.fine = torch.nn.Linear(features, FINE)
        self.coarse = torch.nn.Linear(FINE, COARSE)

    def forward(self, x):
        fine = self.fine(self.backbone(x))
        return fine, self.coarse(torch.sigmoid(fine))


def fill(tensors):
    for index, (name, t) in enumerate(sorted(tensors.items())):
        values = noise(t.numel(), index).reshape(t.shape)
        if t.dim() == 4:
            values = values * (6 / (t.shape[0] * t.shape[2] * t.shape[3])) ** 0.5
        elif t.dim() == 1 and name.endswith(("weight", "running_var")):
            values = 1 + 0.1 * values
        else:
            values = 0.1 * values
        t.copy_(values)


def without_counters(model):
    return {name: t for name, t in model.state_dict().items() if not name.endswith("num_batches_tracked")}


def figures(backbone, features, side, full, last):
    model = Classifier(backbone, features)
    tensors = {name.removeprefix("backbone."): t for name, t in without_counters(model).items()}
    fill(tensors)
    pixels = noise(N * 3 * side * side, 1000).reshape(N, 3, side, side)
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
    with torch.device("meta"):
        names = without_counters(full())
    result["names"] = {name: list(t.shape) for name, t in names.items() if not name.startswith(last)}
    return result


def resnet():
    backbone = ResNet(BasicBlock, [1, 1, 1, 1])
    backbone.fc = torch.nn.Identity()
    return figures(backbone, 512, 64, resnet34, "fc.")


def densenet():
    # The maps of 75 pixels have odd sides, which the transitions' pooling cuts.
    backbone = DenseNet(growth_rate=8, block_config=(2, 3, 2, 2), num_init_features=16)
    features = backbone.classifier.in_features
    backbone.classifier = torch.nn.Identity()
    return figures(backbone, features, 75, densenet121, "classifier.")


def vgg(batch_norm, full):
    with torch.device("meta"):  # as the layers that are replaced would fill a gigabyte
        backbone = VGG(torch.nn.Identity(), init_weights=False)
    backbone.features = make_layers([8, 8, "M", 16, "M", 16, 24, "M"], batch_norm)
    # Dropout draws differently everywhere, so there is none; what is left out are the full network's layers 2, 5 and 6.
    layers = {"0": torch.nn.Linear(24 * 49, 32), "1": torch.nn.ReLU(), "3": torch.nn.Linear(32, 32), "4": torch.nn.ReLU()}
    backbone.classifier = torch.nn.Sequential(OrderedDict(layers))
    return figures(backbone, 32, 75, full, "classifier.6.")


networks = {"resnet": resnet(), "densenet": densenet(), "vgg": vgg(False, vgg16), "vgg_bn": vgg(True, vgg16_bn)}
print(json.dumps(networks))
