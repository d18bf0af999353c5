"""The peer of `twograin dataset import-coco`: pycocotools loads the same two files and applies the same rule.

Usage: import_pycocotools.py TRAIN_INSTANCES TEST_INSTANCES     (needs pycocotools)
"""

import sys

from pycocotools.coco import COCO

for path in sys.argv[1:]:
    coco = COCO(path)
    supercategory = {entry["id"]: entry["supercategory"] for entry in coco.loadCats(coco.getCatIds())}
    kept = 0
    for image in coco.getImgIds():
        annotations = coco.imgToAnns.get(image, [])
        kept += len({supercategory[annotation["category_id"]] for annotation in annotations} - {"person"}) == 1
    print(path, "kept", kept)
