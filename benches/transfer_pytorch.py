"""A finished run of Twograin repeated in PyTorch, with the same images, split, transforms and hyper-parameters.

    python transfer_pytorch.py RUN [--server URL] [--data-dir DIR] [--weights FILE.pth] [--seed N]

Takes the run's specification from the server's API, the images and the split from the data directory, and trains
EfficientNet-Lite0 of the package `efficientnet-lite-pytorch` from `--weights` or, without it, from random ones. Prints each index
beside Twograin's with its 95% interval, and the average precisions of both. Random numbers (order, crops, the head's first
weights) differ, so the figures are to lie in the interval, not to be equal.
"""

import argparse
import json
import math
import sqlite3
import urllib.request
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from efficientnet_lite_pytorch import EfficientNet
from PIL import Image
from safetensors.numpy import load_file
from sklearn.metrics import average_precision_score
from torchvision import transforms

parser = argparse.ArgumentParser()
parser.add_argument("run", type=int)
parser.add_argument("--server", default="http://127.0.0.1:8080")
parser.add_argument("--data-dir", type=Path, default="twograin-data")
parser.add_argument("--weights")
parser.add_argument("--seed", type=int, default=0)
args = parser.parse_args()
torch.manual_seed(args.seed)
torch.set_num_threads(2)


def get(path):
    return json.load(urllib.request.urlopen(f"{args.server}/api/v1/{path}"))


run = get(f"runs/{args.run}")
spec = run["spec"]
assert spec["backbone"] == "efficientnet-lite0", "not this protocol"
assert bool(args.weights) == ("initial_weights" in spec), "--weights, if the run has initial weights, and only then"
assert spec["keep"] == "last" and spec["sampling"] == "uniform" and not spec.get("clip_norm"), "not this protocol"
two_level = spec["objective"] != "coarse-only"
softmax = spec["objective"] == "top-k-softmax"

database = sqlite3.connect(args.data_dir / "twograin.db")
dataset, taxonomy, train_dir, test_dir = database.execute(
    "select id, taxonomy, train_directory, test_directory from dataset where name = ?", [spec["dataset"]]
).fetchone()
taxonomy = json.loads(taxonomy)
fine_count, coarse_count = len(taxonomy["fine"]), len(taxonomy["coarse"])
samples = {"train": {}, "test": {}}
query = """select image.split, source_id, file_name, coarse, group_concat(fine)
           from image join image_label on image_id = image.id where dataset_id = ? group by image.id"""
for split, source, name, coarse, fine in database.execute(query, [dataset]):
    fine = [int(label) for label in fine.split(",")]
    samples[split][source] = Path(train_dir if split == "train" else test_dir) / name, fine, coarse

paths = dict(database.execute("select kind, path from artifact where run_id = ?", [args.run]))
scores = {split: load_file(args.data_dir / paths[f"scores-{split}"]) for split in ["validation", "test"]}
validation = set(scores["validation"]["image_ids"].tolist())
train = [sample for source, sample in samples["train"].items() if source not in validation]
test = [samples["test"][source] for source in scores["test"]["image_ids"].tolist()]

side = spec["input_size"]
normalise = [transforms.ToTensor(), transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])]
as_tested = transforms.Compose(
    [transforms.Resize(round(side * 256 / 224)), transforms.CenterCrop(side), *normalise]
)
as_trained = {
    "none": as_tested,
    "crop-flip": transforms.Compose([transforms.RandomResizedCrop(side), transforms.RandomHorizontalFlip(), *normalise]),
}[spec["augmentation"]]


def load(samples, transform):
    return torch.stack([transform(Image.open(path).convert("RGB")) for path, _, _ in samples])


def multi_hot(samples):
    targets = torch.zeros(len(samples), fine_count)
    for row, (_, fine, _) in zip(targets, samples):
        row[fine] = 1
    return targets


class Classifier(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = EfficientNet.from_name("efficientnet-lite0")
        if args.weights:
            self.backbone.load_state_dict(torch.load(args.weights, weights_only=True))
        else:
            for module in self.backbone.modules():
                if isinstance(module, torch.nn.Conv2d):
                    # As Twograin draws them: a filter's fan-out counts the channels of its own group.
                    fan_out = module.out_channels / module.groups * module.kernel_size[0] ** 2
                    torch.nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))
        self.backbone._fc = torch.nn.Identity()
        if two_level:
            self.fine = torch.nn.Linear(1280, fine_count)
            if not softmax:
                torch.nn.init.constant_(self.fine.bias, -math.log(fine_count - 1))
        self.coarse = torch.nn.Linear(fine_count if two_level else 1280, coarse_count)

    def forward(self, x):
        features = self.backbone(x)
        if not two_level:
            return None, self.coarse(features)
        z = self.fine(features)
        if spec["coarse_input"] == "logits":
            return z, self.coarse(z)
        return z, self.coarse(z.softmax(1) if softmax else z.sigmoid())


def loss_of(z, coarse, targets, categories):
    loss = F.cross_entropy(coarse, categories)
    if two_level and softmax:
        log_p = z.log_softmax(1)
        focal = spec["focal_alpha"] * (1 - log_p.exp()) ** spec["focal_gamma"] * log_p * targets
        loss = loss - focal.sum() / len(z)
    elif two_level:
        loss = loss + F.binary_cross_entropy_with_logits(z, targets, reduction="sum") / len(z)
    return loss


def group_of(name):
    """The layer group of a tensor of the backbone."""
    if name.startswith("_blocks."):
        block = int(name.split(".")[1])
        return f"stage{sum(block >= first for first in [0, 1, 3, 5, 8, 11, 15])}"
    return "stem" if name.startswith(("_conv_stem", "_bn0")) else "head"


model = Classifier()
highest = spec["learning_rate"]
thaws = {}  # of each layer group: its first epoch and its learning rate
if isinstance(spec["unfreeze"], list):
    thaws = {t["group"]: (t["epoch"], t.get("learning_rate", highest)) for t in spec["unfreeze"]}
elif spec["unfreeze"] == "all":
    thaws = {group_of(name): (1, highest) for name, _ in model.backbone.named_parameters()}
parameters = []
for name, parameter in model.named_parameters():
    backbone = name.startswith("backbone.")
    epoch, rate = thaws.get(group_of(name.removeprefix("backbone.")), (math.inf, 0)) if backbone else (1, highest)
    decay = spec["weight_decay"] if spec["decay_biases_and_norms"] or parameter.dim() > 1 else 0
    parameters.append({"params": [parameter], "lr": rate, "weight_decay": decay, "rate": rate, "from": epoch})
algorithm = {
    "sgd": lambda: torch.optim.SGD(parameters, momentum=spec["momentum"], nesterov=spec["nesterov"]),
    "adamw": lambda: torch.optim.AdamW(parameters, betas=(spec["momentum"], 0.999)),
}
optimizer = algorithm[spec["optimizer"]]()

batch = min(spec["batch_size"], len(train))
steps = len(train) // batch
warmup, total = round(spec["warmup_epochs"] * steps), spec["epochs"] * steps


def schedule(step):
    if step < warmup:
        return (step + 1) / warmup
    done = (step - warmup) / (total - warmup)
    return {"constant": 1.0, "cosine": 0.5 * (1 + math.cos(math.pi * done))}[spec["schedule"]]


for epoch in range(1, spec["epochs"] + 1):
    model.train()
    for name, module in model.backbone.named_modules():
        if name and thaws.get(group_of(name), (math.inf, 0))[0] > epoch:
            module.eval()
    if not thaws:
        model.backbone.eval()  # its dropout too: what is frozen computes as in inference
    for group in optimizer.param_groups:
        group["params"][0].requires_grad_(group["from"] <= epoch)
    order, losses = torch.randperm(len(train)).tolist(), []
    for step in range(steps):
        chosen = [train[i] for i in order[step * batch : (step + 1) * batch]]
        for group in optimizer.param_groups:
            group["lr"] = group["rate"] * schedule((epoch - 1) * steps + step)
        z, coarse = model(load(chosen, as_trained))
        loss = loss_of(z, coarse, multi_hot(chosen), torch.tensor([coarse for _, _, coarse in chosen]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    print(f"epoch {epoch}: loss {np.mean(losses):.4f}", flush=True)

model.eval()
with torch.no_grad():
    outputs = [model(load(test[i : i + 32], as_tested)) for i in range(0, len(test), 32)]
coarse = torch.cat([coarse for _, coarse in outputs]).numpy()
coarse_right = coarse.argmax(1) == [coarse for _, _, coarse in test]


def ratio(a, b):
    return a / b if b else None


def figures(fine_right):
    ftct, ftcf = (fine_right & coarse_right).sum(), (fine_right & ~coarse_right).sum()
    ffct = (~fine_right & coarse_right).sum()
    ia, ip, ir = ratio(ftct, len(test)), ratio(ftct, ftct + ftcf), ratio(ftct, ftct + ffct)
    return {"ia": ia, "ip": ip, "ir": ir, "if1": ratio(2 * ip * ir, ip + ir) if ip and ir else None}


def probabilities(z):
    z = torch.from_numpy(z).double()
    return (z.softmax(1) if softmax else z.sigmoid()).numpy()


def precisions(z):
    truth, p = multi_hot(test).numpy(), probabilities(z)
    return {t: average_precision_score(truth[:, t], p[:, t]) for t in range(fine_count) if truth[:, t].any()}


found = {"coarse_accuracy": coarse_right.mean()}
if two_level:
    z = torch.cat([z for z, _ in outputs]).numpy()
    right = []
    for row, (_, fine, _) in zip(probabilities(z), test):
        ranked = np.argsort(-row, kind="stable")[: len(fine)] if softmax else np.flatnonzero(row > spec["threshold"])
        right.append(set(ranked.tolist()) == set(fine))
    found |= figures(np.array(right))
print(f"{'':16} PyTorch  Twograin")
for name, value in found.items():
    figure = run["results"]["figures"][name]
    if value is None or figure is None or figure["value"] is None:
        print(f"{name:16} {value}  {figure}")
        continue
    low, high = figure["low"], figure["high"]
    inside = "inside" if low <= value <= high else "OUTSIDE"
    print(f"{name:16} {value:7.3f}  {figure['value']:8.3f}  [{low:.3f}, {high:.3f}]  {inside}")
if two_level:
    theirs, ours = precisions(z), precisions(scores["test"]["fine_logits"])
    print(f"mean AP over {len(ours)} labels: PyTorch {np.mean(list(theirs.values())):.3f}, Twograin {np.mean(list(ours.values())):.3f}")
