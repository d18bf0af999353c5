"""twograin's training core beside PyTorch and ONNX Runtime, in turn.

    python benches/training_core.py target/release/twograin [--backbone NAME]... [--pass train|infer] [--rounds 3] [--threads 2]

Needs torch, torchvision, efficientnet-lite-pytorch, and for ONNX Runtime's columns onnx, onnxscript and onnxruntime. Each
measurement is a process of its own: twograin (`twograin bench`), then each peer on the same network with the same two-level head,
loss and optimizer, and so on for the given number of rounds. Printed are the medians over the rounds as a Markdown table.
Figures of a process are the median of its steps after the first; memory is its peak resident size.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time

FINE, COARSE = 80, 11
BACKBONES = ["resnet34", "densenet121", "vgg16", "efficientnet-lite0"]
CASES = [("train", 16), ("infer", 1), ("infer", 16)]


def classifier(name):
    """The backbone under the two-level head: image -> fine logits -> sigmoid -> coarse logits."""
    import torch
    import torchvision

    class Classifier(torch.nn.Module):
        def __init__(self, backbone, features):
            super().__init__()
            self.backbone = backbone
            self.fine = torch.nn.Linear(features, FINE)
            self.coarse = torch.nn.Linear(FINE, COARSE)

        def forward(self, x):
            fine = self.fine(self.backbone(x))
            return fine, self.coarse(torch.sigmoid(fine))

    if name == "efficientnet-lite0":
        from efficientnet_lite_pytorch import EfficientNet

        backbone = EfficientNet.from_name(name)
        features, backbone._fc = 1280, torch.nn.Identity()
    elif name == "vgg16":
        with torch.device("meta"):
            backbone = torchvision.models.vgg16()
        backbone = backbone.to_empty(device="cpu")
        for parameter in backbone.parameters():
            torch.nn.init.normal_(parameter, std=0.01)
        features, backbone.classifier[6] = 4096, torch.nn.Identity()
    else:
        backbone = getattr(torchvision.models, name)()
        last = "fc" if name == "resnet34" else "classifier"
        features = getattr(backbone, last).in_features
        setattr(backbone, last, torch.nn.Identity())
    return Classifier(backbone, features)


def median_seconds(step, seconds):
    step()
    began, times = time.perf_counter(), []
    while len(times) < 3 or time.perf_counter() - began < seconds:
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def pytorch(name, mode, batch, threads, seconds):
    import torch
    import torch.nn.functional as F

    torch.set_num_threads(threads)
    model, x = classifier(name), torch.rand(batch, 3, 224, 224) * 2 - 1
    if mode == "infer":
        model.eval()

        def step():
            with torch.inference_mode():
                model(x)

        return median_seconds(step, seconds)
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9, weight_decay=1e-4)
    fine_targets = torch.eye(FINE)[torch.arange(batch) % FINE]
    categories = torch.arange(batch) % COARSE

    def step():
        optimizer.zero_grad(set_to_none=True)
        fine, coarse = model(x)
        loss = F.binary_cross_entropy_with_logits(fine, fine_targets, reduction="sum") / batch
        (loss + F.cross_entropy(coarse, categories)).backward()
        optimizer.step()

    return median_seconds(step, seconds)


def onnxruntime(path, batch, threads, seconds):
    import numpy
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    x = numpy.random.default_rng(0).random((batch, 3, 224, 224), dtype=numpy.float32) * 2 - 1
    return median_seconds(lambda: session.run(None, {"x": x}), seconds)


def export(name, batch, path):
    import torch

    model = classifier(name).eval()
    torch.onnx.export(model, (torch.rand(batch, 3, 224, 224),), path, input_names=["x"], dynamo=True, external_data=False)


def row(name, mode, batch, seconds):
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"backbone": name, "pass": mode, "batch": batch, "images_per_second": batch / seconds, "peak_memory_mb": peak}


def child(*arguments):
    """Runs this script for one measurement; `None` if that fails."""
    done = subprocess.run([sys.executable, __file__, "--child", *map(str, arguments)], capture_output=True, text=True)
    if done.returncode:
        print(f"{arguments}: {done.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
        return None
    return json.loads(done.stdout.splitlines()[-1])


def run_child(peer, name, mode, batch, threads, seconds, path=""):
    batch, threads, seconds = int(batch), int(threads), float(seconds)
    if peer == "export":
        export(name, batch, path)
        print("{}")
    elif peer == "pytorch":
        print(json.dumps(row(name, mode, batch, pytorch(name, mode, batch, threads, seconds))))
    else:
        print(json.dumps(row(name, mode, batch, onnxruntime(path, batch, threads, seconds))))


def ours(binary, name, mode, batch, threads, seconds):
    command = [binary, "bench", "--json", "--backbone", name, "--pass", mode, "--batch", batch]
    command += ["--threads", threads, "--seconds", int(seconds)]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True)
    return json.loads(done.stdout)[0]


def median(rows, key):
    values = [r[key] for r in rows if r]
    return statistics.median(values) if values else None


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("binary")
    parser.add_argument("--backbone", action="append", choices=BACKBONES)
    parser.add_argument("--pass", dest="mode", choices=["train", "infer"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--no-onnx", action="store_true")
    args = parser.parse_args()
    os.environ["PYTHONWARNINGS"] = "ignore"
    print("| backbone | pass | batch | ms: twograin | PyTorch | ONNX Runtime | speed over PyTorch | over ONNX Runtime"
          " | of GEMM | MiB: twograin | PyTorch | ratio |")
    print("|---|---|---|---|---|---|---|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for name in args.backbone or BACKBONES:
            for mode, batch in CASES:
                if args.mode not in (None, mode):
                    continue
                found = {"twograin": [], "pytorch": [], "onnxruntime": []}
                path = os.path.join(folder, f"{name}-{batch}.onnx")
                onnx = mode == "infer" and not args.no_onnx
                onnx = onnx and child("export", name, mode, batch, args.threads, 0, path) is not None
                for _ in range(args.rounds):
                    found["twograin"].append(ours(args.binary, name, mode, batch, args.threads, args.seconds))
                    found["pytorch"].append(child("pytorch", name, mode, batch, args.threads, args.seconds))
                    if onnx:
                        found["onnxruntime"].append(child("ort", name, mode, batch, args.threads, args.seconds, path))
                speed = {peer: median(rows, "images_per_second") for peer, rows in found.items()}
                memory = {peer: median(rows, "peak_memory_mb") for peer, rows in found.items()}
                ms = {peer: f"{1e3 * batch / value:.0f}" if value else "–" for peer, value in speed.items()}
                over = {p: f"{speed['twograin'] / v:.2f}" if v else "–" for p, v in speed.items()}
                share = median(found["twograin"], "gemm_share")
                mib = {peer: f"{value:.0f}" if value else "–" for peer, value in memory.items()}
                ratio = f"{memory['twograin'] / memory['pytorch']:.2f}" if memory["pytorch"] and memory["twograin"] else "–"
                print(f"| {name} | {mode} | {batch} | {ms['twograin']} | {ms['pytorch']} | {ms['onnxruntime']}"
                      f" | {over['pytorch']} | {over['onnxruntime']} | {share:.2f}"
                      f" | {mib['twograin']} | {mib['pytorch']} | {ratio} |", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        run_child(*sys.argv[2:])
    else:
        main()
