#!/usr/bin/env python3
"""Reference values of the image transforms, by torchvision and Pillow. Needs torch, torchvision, Pillow.

Usage: python tests/reference/transforms.py ../shared/data/coco-subset

Writes, next to this script:
transforms.json  for some photographs, an 8 x 8 grid of the tensor that torchvision's test transform gives (channel by
                 channel, row by row), and for a generated image, the same
cmyk.jpg         a CMYK JPEG as print software writes it, its left half red and its right half white
"""
import json, pathlib, sys

from PIL import Image
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
for image in json.load(open(subset / "annotations/instances_val2017.json"))["images"]:
    path = subset / "val2017" / image["file_name"]
    mode = Image.open(path).mode
    if len(photographs) < 6 or (mode == "L" and not any(p["mode"] == "L" for p in photographs)):
        photographs.append({"file": f"val2017/{image['file_name']}", "mode": mode,
                            "tensors": [{"size": s, "grid": reference(Image.open(path), s)} for s in (224, 64)]})

lines = ",\n  ".join(json.dumps(p) for p in photographs)
generated_lines = json.dumps([{"size": s, "grid": reference(generated(), s)} for s in (224, 64)])
(here / "transforms.json").write_text(f'{{"photographs": [\n  {lines}],\n "generated": {generated_lines}}}\n')

cmyk = Image.new("CMYK", (16, 8), (0, 255, 255, 0))
cmyk.paste((0, 0, 0, 0), (8, 0, 16, 8))
cmyk.save(here / "cmyk.jpg", quality=95)
