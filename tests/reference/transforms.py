#!/usr/bin/env python3
"""Reference values of the image transforms, by torchvision and Pillow. Needs torch, torchvision, Pillow.

Usage: python tests/reference/transforms.py ../shared/data/coco-subset

Writes, next to this script:
transforms.json  for some photographs, an 8 x 8 grid of the tensor that torchvision's test transform gives (channel by
                 channel, row by row), and for a generated image, the same; for another one, what Pillow's enhancements
                 (those of torchvision's ColorJitter) make of it, in several factors and orders
cmyk.jpg         a CMYK JPEG as print software writes it, its left half red and its right half white
"""
import json, pathlib, sys

from PIL import Image, ImageEnhance
from torchvision import transforms as T

here = pathlib.Path(__file__).resolve().parent
subset = pathlib.Path(sys.argv[1])


def reference(image, size):
    transform = T.Compose([T.Resize(round(size * 256 / 224)), T.CenterCrop(size), T.ToTensor(),
                           T.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])])
    step = size // 8
    grid = transform(image.convert("RGB"))[:, step // 2::step, step // 2::step][:, :8, :8]
    return [round(v, 3) for v in grid.flatten().tolist()]


def generated():
    """The test builds the same image: nothing but the resizing is compared."""
    image = Image.new("RGB", (301, 200))
    image.putdata([((x * 7 + y * 3) % 256, (x * y) % 256, (x // 8 + y // 8) % 2 * 255) for y in range(200) for x in range(301)])
    return image


photographs = []
images = json.load(open(subset / "annotations/instances_val2017.json"))["images"]
for image in images[::10]:
    path = subset / "val2017" / image["file_name"]
    photographs.append({"file": f"val2017/{image['file_name']}",
                        "tensors": [{"size": s, "grid": reference(Image.open(path), s)} for s in (224, 64)]})

ENHANCEMENTS = {"brightness": ImageEnhance.Brightness, "contrast": ImageEnhance.Contrast, "saturation": ImageEnhance.Color}


def jittered(*steps):
    image = Image.new("RGB", (12, 9))
    image.putdata([((i * 37) % 256, (i * 101 + 13) % 256, (i * i * 7 + i // 12 * 50) % 256) for i in range(12 * 9)])
    for name, factor in steps:
        image = ENHANCEMENTS[name](image).enhance(factor)
    return {"steps": steps, "pixels": list(image.tobytes())}


jitter = [jittered((name, factor)) for name in ENHANCEMENTS for factor in (0.6, 0.75, 1.0, 1.125, 1.4)]
jitter += [jittered(("contrast", 1.375), ("saturation", 0.625), ("brightness", 1.25)),
           jittered(("brightness", 0.7), ("saturation", 1.3), ("contrast", 0.9)),
           jittered(("saturation", 1.4), ("brightness", 1.4), ("contrast", 1.4))]

lines = ",\n  ".join(json.dumps(p) for p in photographs)
generated_lines = json.dumps([{"size": s, "grid": reference(generated(), s)} for s in (224, 64)])
jitter_lines = "[\n  " + ",\n  ".join(json.dumps(j) for j in jitter) + "]"
(here / "transforms.json").write_text(f'{{"photographs": [\n  {lines}],\n "generated": {generated_lines},\n "jitter": {jitter_lines}}}\n')

cmyk = Image.new("CMYK", (16, 8), (0, 255, 255, 0))
cmyk.paste((0, 0, 0, 0), (8, 0, 16, 8))
cmyk.save(here / "cmyk.jpg", quality=95)
