"""Names and shapes of the tensors of timm's, torchvision's and the EfficientNet package's networks.   python weight_names.py

Writes, beside itself, `weight_names.json`: by where they come from, of which backbone they are, and every tensor of the state
dictionary of a network with 1000 classes.
"""

import json
import re
from pathlib import Path

import timm
import torchvision
from efficientnet_lite_pytorch import EfficientNet


def shapes(network):
    return {name: list(tensor.shape) for name, tensor in network.state_dict().items()}


def before_torchvision_0_3(names):
    """As in torchvision's own files, which its `densenet._load_state_dict` renames; counters came with PyTorch 0.4.1."""
    renamed = {re.sub(r"(denselayer\d+\.(?:norm|conv))([12])\.", r"\1.\2.", name): shape for name, shape in names.items()}
    return {name: shape for name, shape in renamed.items() if not name.endswith("num_batches_tracked")}


densenet = shapes(torchvision.models.densenet121())
sources = {
    "timm resnet34": ("resnet34", shapes(timm.create_model("resnet34"))),
    "timm vgg16": ("vgg16", shapes(timm.create_model("vgg16"))),
    "timm densenet121": ("densenet121", shapes(timm.create_model("densenet121"))),
    "timm efficientnet_lite0": ("efficientnet-lite0-timm", shapes(timm.create_model("efficientnet_lite0"))),
    "timm tf_efficientnet_lite0": ("efficientnet-lite0", shapes(timm.create_model("tf_efficientnet_lite0"))),
    "torchvision resnet34": ("resnet34", shapes(torchvision.models.resnet34())),
    "torchvision vgg16": ("vgg16", shapes(torchvision.models.vgg16())),
    "torchvision densenet121": ("densenet121", densenet),
    "torchvision densenet121, as its files have it": ("densenet121", before_torchvision_0_3(densenet)),
    "efficientnet-lite-pytorch": ("efficientnet-lite0", shapes(EfficientNet.from_name("efficientnet-lite0"))),
}
lines = []
for source, (backbone, names) in sources.items():
    tensors = ", ".join(f"{json.dumps(name)}: {shape}" for name, shape in names.items())
    lines.append(f'"{source}": {{"backbone": "{backbone}", "tensors": {{{tensors}}}}}')
Path(__file__).with_suffix(".json").write_text("{\n" + ",\n".join(lines) + "\n}\n")
