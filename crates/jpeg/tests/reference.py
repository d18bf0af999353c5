#!/usr/bin/env python3
"""Small JPEGs, and the means of 2 x 2, 4 x 4 and 8 x 8 pixels of what libjpeg-turbo makes of them. Needs Pillow.

Usage: python crates/jpeg/tests/reference.py

Writes NAME.jpg and NAME-2.ppm, NAME-4.ppm, NAME-8.ppm to the directory `reference` next to this script: smooth colours with some
shapes, 150 x 106 pixels, so that the last blocks reach beyond the image.
"""
import math, pathlib

from PIL import Image, ImageDraw, ImageFilter

out = pathlib.Path(__file__).resolve().parent / "reference"
out.mkdir(exist_ok=True)
image = Image.new("RGB", (150, 106))
image.putdata([(round(127 + 120 * math.sin(x / 19)), round(127 + 120 * math.cos(y / 13)), (x + y) % 256) for y in range(106) for x in range(150)])
draw = ImageDraw.Draw(image)
draw.ellipse((20, 15, 90, 70), fill=(200, 40, 60))
draw.line((0, 105, 149, 0), fill=(250, 250, 210), width=5)
image = image.filter(ImageFilter.GaussianBlur(3))

for name, picture, options in [
    ("420", image, {"subsampling": "4:2:0"}),
    ("422", image, {"subsampling": "4:2:2"}),
    ("444", image, {"subsampling": "4:4:4"}),
    ("restarts", image, {"subsampling": "4:2:0", "restart_marker_blocks": 3}),
    ("optimized", image, {"subsampling": "4:2:0", "optimize": True, "quality": 97}),
    ("grey", image.convert("L"), {}),
]:
    picture.save(out / f"{name}.jpg", **{"quality": 90, **options})
    for divisor in (2, 4, 8):
        Image.open(out / f"{name}.jpg").convert("RGB").reduce(divisor).save(out / f"{name}-{divisor}.ppm")
image.save(out / "progressive.jpg", progressive=True)
image.convert("CMYK").save(out / "cmyk.jpg")
