#!/usr/bin/env python3
"""Small images of every kind that is read, and what Pillow makes of them: upright, in RGB, over white. Needs Pillow and NumPy.

Usage: python tests/reference/decoding.py

Writes the images to the directory `decoding` next to this script, and decoding.json: for each file its size and its pixels, row
by row, and how far a decoder may be off, as decoders of JPEG differ a little.
"""
import json, pathlib

import numpy as np
from PIL import Image, ImageOps

here = pathlib.Path(__file__).resolve().parent
out = here / "decoding"
out.mkdir(exist_ok=True)

y, x = np.mgrid[0:16, 0:24]
rgb = Image.fromarray(np.stack([x * 10, y * 15, 200 - x * 4 - y * 4], axis=2).astype(np.uint8))
grey = rgb.convert("L")
alpha = Image.fromarray((x * 11).astype(np.uint8))
palette = rgb.quantize(16)
entries = []


def expected(image):
    image = ImageOps.exif_transpose(image)
    if image.mode == "I;16":
        # To the nearest of 255 steps.
        image = Image.fromarray(np.round(np.asarray(image) / 257).astype(np.uint8))
    rgba = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")


def add(name, image, tolerance=0, **options):
    image.save(out / name, **options)
    with Image.open(out / name) as image:
        image = expected(image)
    entries.append({"file": name, "width": image.width, "height": image.height, "tolerance": tolerance,
                    "pixels": list(image.tobytes())})


for orientation in range(1, 9):
    exif = Image.Exif()
    exif[0x0112] = orientation
    add(f"orientation-{orientation}.jpg", rgb, 4, quality=95, subsampling=0, exif=exif)
exif[0x0112] = 6
add("orientation-6.png", rgb, exif=exif)
add("progressive.jpg", rgb, 4, quality=95, progressive=True, subsampling=0)
add("subsampled.jpg", rgb, 6, quality=95, subsampling="4:2:0")
add("grey.jpg", grey, 2, quality=95)
add("cmyk.jpg", rgb.convert("CMYK"), 6, quality=95)
add("grey.png", grey)
add("bits.png", grey.convert("1"))
add("grey-16.png", Image.fromarray((x * 2700 + y * 100).astype(np.uint16)))
add("palette.png", palette)
add("palette-transparent.png", palette, transparency=3)
add("palette-alpha.png", palette, transparency=bytes(range(0, 256, 16)))
add("grey-alpha.png", Image.merge("LA", (grey, alpha)), 1)
add("alpha.png", Image.merge("RGBA", (*rgb.split(), alpha)), 1)
add("alpha.webp", Image.merge("RGBA", (*rgb.split(), alpha)), 1, lossless=True, exact=True)
add("palette.gif", palette)
add("palette-transparent.gif", palette, transparency=3)
add("palette.bmp", palette)
add("lzw.tiff", rgb, compression="tiff_lzw")

(here / "decoding.json").write_text("[\n" + ",\n".join(json.dumps(e) for e in entries) + "\n]\n")
