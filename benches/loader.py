"""twograin's loader beside torchvision's pipeline, in turn.

    python benches/loader.py target/release/twograin DIR [--workers 0 2] [--rounds 3] [--seconds 5] [--augmentation crop-flip]

DIR holds photographs, in folders or not. Needs torch and torchvision. Each measurement is a process of its own, each goes over
the same files in the same number of threads: torchvision's transforms under a DataLoader with that many worker processes (0: none,
one thread), with Pillow's decoder and with torchvision.io's; ours with as many threads (0 and 1: one thread). Transforms are a
random resized crop to 224 pixels, a flip, with `crop-flip-jitter` a ColorJitter(0.4, 0.4, 0.4) between them, and normalisation;
batches of 32. Printed are the medians over the rounds, in images per second, as a Markdown table.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import time

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def torchvision_rate(directory, decoder, workers, seconds, augmentation):
    import torch
    from torchvision.io import ImageReadMode, decode_image
    from torchvision.transforms import v2

    torch.set_num_threads(1)
    jitter = [v2.ColorJitter(0.4, 0.4, 0.4)] if augmentation == "crop-flip-jitter" else []
    augment = v2.Compose([v2.RandomResizedCrop(224, antialias=True), v2.RandomHorizontalFlip(), *jitter])
    finish = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)])

    def pillow(path):
        from PIL import Image

        with Image.open(path) as image:
            return image.convert("RGB")

    def tensor(path):
        return decode_image(str(path), ImageReadMode.RGB)

    decode = {"pillow": pillow, "torchvision.io": tensor}[decoder]

    class Photographs(torch.utils.data.Dataset):
        paths = photographs(directory)

        def __len__(self):
            return len(self.paths)

        def __getitem__(self, index):
            return finish(augment(decode(self.paths[index])))

    loader = torch.utils.data.DataLoader(Photographs(), batch_size=32, shuffle=True, num_workers=workers,
                                         persistent_workers=workers > 0)
    for _ in loader:  # An epoch to start the workers and fill the file cache.
        pass
    began, images = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        images += sum(len(batch) for batch in loader)
    return images / (time.perf_counter() - began)


def photographs(directory):
    return sorted(p for p in pathlib.Path(directory).rglob("*") if p.suffix.lower() in (".jpg", ".jpeg", ".png"))


def twograin_rate(program, directory, workers, seconds, augmentation):
    command = [program, "bench", "--loader", directory, "--threads", str(max(workers, 1)), "--seconds", str(seconds),
               "--augmentation", augmentation, "--batch", "32", "--json"]
    return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)[0]["images_per_second"]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("directory")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 2])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--augmentation", default="crop-flip", choices=["crop-flip", "crop-flip-jitter"])
    parser.add_argument("--peer", choices=["pillow", "torchvision.io"], help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.peer:
        print(torchvision_rate(args.directory, args.peer, args.workers[0], args.seconds, args.augmentation))
        return

    def in_child(decoder, workers):
        command = [sys.executable, __file__, args.program, args.directory, "--peer", decoder, "--workers", str(workers),
                   "--seconds", str(args.seconds), "--augmentation", args.augmentation]
        return float(subprocess.run(command, check=True, capture_output=True).stdout)

    print("| workers | twograin | torchvision, Pillow | torchvision, torchvision.io | speed over Pillow | over torchvision.io |")
    print("|---|---|---|---|---|---|")
    for workers in args.workers:
        rounds = [(twograin_rate(args.program, args.directory, workers, args.seconds, args.augmentation),
                   in_child("pillow", workers), in_child("torchvision.io", workers)) for _ in range(args.rounds)]
        ours, pillow, io = (statistics.median(column) for column in zip(*rounds))
        print(f"| {workers} | {ours:.0f} | {pillow:.0f} | {io:.0f} | {ours / pillow:.2f} | {ours / io:.2f} |", flush=True)


if __name__ == "__main__":
    main()
