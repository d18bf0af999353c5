"""Imports instances files of COCO's size, checks counts and memory, prints the time.   import_at_full_size.py TWOGRAIN COCO DATA

TWOGRAIN: the binary. COCO: directory with the two files. DATA: a data directory to be made. Standard library alone.
"""

import json
import os
import resource
import subprocess
import sys
import time

twograin, coco, data = sys.argv[1:]
MEGABYTES = 400

environment = {name: value for name, value in os.environ.items() if not name.startswith("TWOGRAIN_")}
start = time.monotonic()
done = subprocess.run(
    [twograin, "dataset", "import-coco", "coco", "--labels-only", "--json", "--data-dir", data]
    + ["--train-annotations", f"{coco}/instances_train2017.json", "--test-annotations", f"{coco}/instances_val2017.json"],
    check=True,
    stdout=subprocess.PIPE,
    env=environment,
)
seconds = time.monotonic() - start
megabytes = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1000
report = json.loads(done.stdout)
counts = report["train_images"], report["test_images"]
print(f"{counts[0]} train and {counts[1]} test images kept, in {seconds:.1f} s with {megabytes:.0f} MB")
assert counts == (58107, 2447), counts
assert megabytes < MEGABYTES, megabytes
