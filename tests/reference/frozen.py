"""The networks of `backbones.py` with their first parts frozen.   python frozen.py

Writes `frozen.json` beside itself. The frozen parts are in evaluation mode and need no gradient, the others train, in float64 on
one batch. Of each gradient and running statistic that is left there are the L2 norm and the product with `noise`.
"""

import copy
import json
from pathlib import Path

import torch
import torch.nn.functional as F
from backbones import N, Classifier, fill, networks, noise, without_counters

# By family: how many layer groups are frozen, and the modules that they consist of.
FROZEN = {
    "resnet": (3, ["conv1", "bn1", "layer1", "layer2"]),
    "densenet": (2, ["features.conv0", "features.norm0", "features.denseblock1", "features.transition1"]),
    "efficientnet": (3, ["_conv_stem", "_bn0", "_blocks.0", "_blocks.1", "_blocks.2"]),
    "vgg": (1, ["features.0", "features.2"]),
    "vgg_bn": (1, ["features.0", "features.1", "features.3", "features.4"]),
}


def figures(family, backbone, features, side):
    groups, frozen = FROZEN[family]
    model = Classifier(copy.deepcopy(backbone), features)
    fill({name.removeprefix("backbone."): t for name, t in without_counters(model).items()})
    model.train()
    for name in frozen:
        model.backbone.get_submodule(name).eval().requires_grad_(False)
    pixels = noise(N * 3 * side * side, 1000).reshape(N, 3, side, side)
    fine, coarse = model(pixels)
    targets = torch.tensor([[1, 0, 0, 1, 0], [0, 1, 0, 0, 0], [0, 0, 0, 0, 1.0]])
    loss = F.binary_cross_entropy_with_logits(fine, targets.double(), reduction="sum") / N
    loss = loss + F.cross_entropy(coarse, torch.tensor([0, 1, 2]))
    loss.backward()
    kinds = {
        "grad": {name: p.grad for name, p in model.named_parameters() if p.grad is not None},
        "running": {name: t for name, t in model.named_buffers() if "running" in name},
    }
    return {
        "groups": groups,
        "loss": loss.item(),
        **{
            kind: {
                name.removeprefix("backbone."): [t.norm().item(), (t.flatten() * noise(t.numel(), 5)).sum().item()]
                for name, t in tensors.items()
            }
            for kind, tensors in kinds.items()
        },
    }


found = {family: figures(family, *network[:3]) for family, network in networks.items()}
(Path(__file__).parent / "frozen.json").write_text(json.dumps(found) + "\n")
