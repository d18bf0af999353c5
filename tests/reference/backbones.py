"""torchvision's networks, and EfficientNet of the package, as the backbone of a two-level classifier.   python backbones.py

Writes, beside itself, `backbones.json` and `backbones.safetensors`. Small configurations; weights and pixels come from
formulas that the Rust test repeats, so no weights are stored. The tensors are of float64 computations, stored as float32:
of one batch every gradient (`FAMILY/grad/NAME`), the running statistics after it, and how one step of SGD and of AdamW
changes every weight. `spread` is how far PyTorch's own float32 comes from them, relative to the tensor's L2 norm: the
largest of several runs that are equal in exact arithmetic. `names` are the tensors of the full-sized network of the same
family without its last layer.
"""

import copy
import itertools
import json
from collections import OrderedDict
from pathlib import Path

import torch
import torch.nn.functional as F
from efficientnet_lite_pytorch import BlockDecoder, EfficientNet, GlobalParams
from safetensors.torch import save_file
from torchvision.models import densenet121, resnet34, vgg16, vgg16_bn
from torchvision.models.densenet import DenseNet
from torchvision.models.resnet import BasicBlock, ResNet
from torchvision.models.vgg import VGG, make_layers

torch.set_default_dtype(torch.float64)
N, FINE, COARSE = 3, 5, 3
STEP = {"lr": 0.01, "weight_decay": 0.01}
ORDERS = [0, 1, 2], [1, 2, 0], [2, 1, 0]


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


def run(model, pixels, order=ORDERS[0]):
    """Logits, loss and tensors by kind and name of one batch; `model` is left as it was."""
    targets = torch.tensor([[1, 0, 0, 1, 0], [0, 1, 0, 0, 0], [0, 0, 0, 0, 1.0]], dtype=pixels.dtype)[order]
    categories = torch.tensor([0, 1, 2])[order]
    batch, back = pixels[order], torch.tensor(order).argsort()
    model = copy.deepcopy(model)

    def logits():
        fine, coarse = model(batch)
        return fine, coarse, {"fine": fine[back].detach(), "coarse": coarse[back].detach()}

    with torch.no_grad():
        model.eval()
        evaluated = logits()[2]
    model.train()
    fine, coarse, trained = logits()
    loss = F.binary_cross_entropy_with_logits(fine, targets, reduction="sum") / N + F.cross_entropy(coarse, categories)
    loss.backward()
    kinds = {
        "grad": {name: p.grad for name, p in model.named_parameters()},
        "running": {name: t for name, t in model.named_buffers() if "running" in name},
    }
    for kind, algorithm in [("sgd", torch.optim.SGD), ("adamw", torch.optim.AdamW)]:
        stepped = copy.deepcopy(model)
        for p, old in zip(stepped.parameters(), model.parameters()):
            p.grad = old.grad.clone()
        options = {"momentum": 0.9} if kind == "sgd" else {"betas": (0.9, 0.999)}
        algorithm(stepped.parameters(), **STEP, **options).step()
        olds = dict(model.named_parameters())
        kinds[kind] = {name: (p.double() - olds[name].double()).detach() for name, p in stepped.named_parameters()}
    # Norms and running statistics are named as in the backbone alone.
    kinds = {kind: {name.removeprefix("backbone."): t for name, t in ts.items()} for kind, ts in kinds.items()}
    return {"eval": evaluated, "train": trained, "loss": loss.item(), **kinds}


def float32_runs(model, pixels):
    model, pixels = copy.deepcopy(model).float(), pixels.float()
    for mkldnn, layout, order in itertools.product(
        [True, False], [torch.contiguous_format, torch.channels_last], ORDERS
    ):
        with torch.backends.mkldnn.flags(enabled=mkldnn):
            yield run(model.to(memory_format=layout), pixels.to(memory_format=layout), order)


def relative(found, exact):
    return ((found.double() - exact).norm() / exact.norm()).item()


def figures(family, backbone, features, side, full, last):
    model = Classifier(backbone, features)
    fill({name.removeprefix("backbone."): t for name, t in without_counters(model).items()})
    pixels = noise(N * 3 * side * side, 1000).reshape(N, 3, side, side)
    exact = run(model, pixels)
    runs = list(float32_runs(model, pixels))

    spread = {}
    for kind in ["eval", "train", "grad", "running", "sgd", "adamw"]:
        errors = {}
        for name, t in exact[kind].items():
            clear = torch.ones_like(t, dtype=torch.bool)
            if kind == "adamw":
                # The first step is almost the gradient's sign, which rounding decides where there is almost no gradient.
                gradient = exact["grad"][name].abs()
                clear = gradient > 1e-4 * gradient.max()
            errors[name] = max(relative(r[kind][name][clear], t[clear]) for r in runs)
        spread[kind] = {name: float(f"{error:.3g}") for name, error in sorted(errors.items())}
    for kind in ["grad", "running", "sgd", "adamw"]:
        for name, t in exact[kind].items():
            stored[f"{family}/{kind}/{name}"] = t.float().contiguous()

    def listed(logits):
        return {name: t.flatten().tolist() for name, t in logits.items()}

    with torch.device("meta"):
        names = without_counters(full())
    return {
        "eval": listed(exact["eval"]),
        "train": {**listed(exact["train"]), "loss": exact["loss"]},
        "spread": spread,
        "names": {name: list(t.shape) for name, t in names.items() if not name.startswith(last)},
    }


def resnet():
    backbone = ResNet(BasicBlock, [1, 1, 1, 1])
    # Narrower than the class can be asked for.
    backbone.inplanes = 16
    backbone.conv1 = torch.nn.Conv2d(3, 16, 7, 2, 3, bias=False)
    backbone.bn1 = torch.nn.BatchNorm2d(16)
    for stage, width in enumerate([16, 16, 24, 32]):
        layer = backbone._make_layer(BasicBlock, width, 1, stride=2 if stage else 1)
        setattr(backbone, f"layer{stage + 1}", layer)
    backbone.fc = torch.nn.Identity()
    return backbone, 32, 64, resnet34, "fc."


def densenet():
    # The maps of 75 pixels have odd sides, which the transitions' pooling cuts.
    backbone = DenseNet(growth_rate=8, block_config=(2, 3, 2, 2), num_init_features=16)
    features = backbone.classifier.in_features
    backbone.classifier = torch.nn.Identity()
    return backbone, features, 75, densenet121, "classifier."


def efficientnet():
    # A quarter of these widths, the stem's 32 and the head's 1280. The maps' sides, 70, 35, 18 and 9, are padded on both
    # sides alike and otherwise.
    blocks = ["r1_k3_s11_e1_i32_o48", "r2_k3_s22_e3_i48_o64", "r2_k5_s22_e6_i64_o80", "r1_k5_s11_e2_i80_o96"]
    settings = GlobalParams(
        width_coefficient=0.25,
        depth_coefficient=1.0,
        depth_divisor=4,
        image_size=70,
        dropout_rate=0.0,
        drop_connect_rate=0.0,
        num_classes=1,
        batch_norm_momentum=0.99,
        batch_norm_epsilon=1e-3,
        relu_fn="relu6",
        fix_head_stem=False,
        local_pooling=False,
    )
    backbone = EfficientNet(BlockDecoder.decode(blocks), settings)
    backbone._fc = torch.nn.Identity()
    return backbone, 320, 70, lambda: EfficientNet.from_name("efficientnet-lite0"), "_fc."


def vgg(batch_norm, full):
    with torch.device("meta"):  # as the layers that are replaced would fill a gigabyte
        backbone = VGG(torch.nn.Identity(), init_weights=False)
    backbone.features = make_layers([8, 8, "M", 16, "M", 16, 24, "M"], batch_norm)
    # Dropout draws differently everywhere, so there is none; what is left out are the full network's layers 2, 5 and 6.
    layers = {"0": torch.nn.Linear(24 * 49, 32), "1": torch.nn.ReLU(), "3": torch.nn.Linear(32, 32), "4": torch.nn.ReLU()}
    backbone.classifier = torch.nn.Sequential(OrderedDict(layers))
    return backbone, 32, 75, full, "classifier.6."


stored = {}
networks = {
    "resnet": resnet(),
    "densenet": densenet(),
    "efficientnet": efficientnet(),
    "vgg": vgg(False, vgg16),
    "vgg_bn": vgg(True, vgg16_bn),
}

if __name__ == "__main__":
    networks = {family: figures(family, *network) for family, network in networks.items()}
    folder = Path(__file__).parent
    (folder / "backbones.json").write_text(json.dumps(networks) + "\n")
    save_file(stored, folder / "backbones.safetensors")
