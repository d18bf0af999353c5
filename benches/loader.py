"""twograin's loader beside torchvision's pipeline, in turn.

    python benches/loader.py target/release/twograin DIR [--workers 0 2] [--rounds 3] [--seconds 5] [--size 224]
        [--augmentation crop-flip]

DIR holds photographs, in folders or not. Needs torch and torchvision. Each measurement is a process of its own, and goes over the
same files: torchvision's transforms under a DataLoader with that many worker processes, with Pillow's decoder and with
torchvision.io's; ours with as many threads. 0 workers is all of the work on one core, to which each process is bound: ours has one
thread beside the one that takes the batches. Transforms are a random resized crop to --size pixels, a flip, with
`crop-flip-jitter` then ColorJitter(0.4, 0.4, 0.4), and normalisation; batches of 32. Printed are the medians over the rounds, in
images per second, as a Markdown table.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

PEERS = ["pillow", "torchvision.io"]
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def torchvision_rate(args):
    import torch
    from torchvision.io import ImageReadMode, decode_image
    from torchvision.transforms import v2

    torch.set_num_threads(1)
    jitter = [v2.ColorJitter(0.4, 0.4, 0.4)] if args.augmentation == "crop-flip-jitter" else []
    augment = v2.Compose([v2.RandomResizedCrop(args.size, antialias=True), v2.RandomHorizontalFlip(), *jitter])
    finish = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)])

    def pillow(path):
        from PIL import Image

        with Image.open(path) as image:
            return image.convert("RGB")

    def tensor(path):
        return decode_image(str(path), ImageReadMode.RGB)

    decode = {"pillow": pillow, "torchvision.io": tensor}[args.peer]

    class Photographs(torch.utils.data.Dataset):
        paths = photographs(args.directory)

        def __len__(self):
            return len(self.paths)

        def __getitem__(self, index):
            return finish(augment(decode(self.paths[index])))

    loader = torch.utils.data.DataLoader(Photographs(), batch_size=32, shuffle=True, num_workers=args.workers[0],
                                         persistent_workers=args.workers[0] > 0)
    for _ in loader:  # An epoch to start the workers and fill the file cache.
        pass
    began, images = time.perf_counter(), 0
    while time.perf_counter() - began < args.seconds:
        images += sum(len(batch) for batch in loader)
    return images / (time.perf_counter() - began)


def photographs(directory):
    return sorted(p for p in pathlib.Path(directory).rglob("*") if p.suffix.lower() in (".jpg", ".jpeg", ".png"))


def output(command, workers):
    bind = (lambda: os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})) if workers == 0 else None
    return subprocess.run([str(part) for part in command], check=True, capture_output=True, preexec_fn=bind).stdout


def rates(args, workers):
    """Of one round: ours, with Pillow, with torchvision.io."""
    common = ["--seconds", args.seconds, "--augmentation", args.augmentation]
    ours = output([args.program, "bench", "--loader", args.directory, "--threads", max(workers, 1), "--batch", 32,
                   "--input-size", args.size, "--json", *common], workers)
    peers = [output([sys.executable, __file__, args.program, args.directory, "--peer", peer, "--workers", workers,
                     "--size", args.size, *common], workers) for peer in PEERS]
    return json.loads(ours)[0]["images_per_second"], *map(float, peers)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("directory")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 2])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--augmentation", default="crop-flip", choices=["crop-flip", "crop-flip-jitter"])
    parser.add_argument("--peer", choices=PEERS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.peer:
        print(torchvision_rate(args))
        return

    print("| workers | twograin | torchvision, Pillow | torchvision, torchvision.io | speed over Pillow | over torchvision.io |")
    print("|---|---|---|---|---|---|")
    for workers in args.workers:
        rounds = [rates(args, workers) for _ in range(args.rounds)]
        ours, pillow, io = (statistics.median(column) for column in zip(*rounds))
        print(f"| {workers} | {ours:.0f} | {pillow:.0f} | {io:.0f} | {ours / pillow:.2f} | {ours / io:.2f} |", flush=True)


if __name__ == "__main__":
    main()
