"""Reads exported tables with pandas and pyarrow and prints their rows as JSON.

Usage: exported.py TABLE.parquet TABLE.csv
"""

import json
import sys

# Its neighbour bottleneck.py is not the package of that name, which pandas looks for.
del sys.path[0]

import pandas
import pyarrow.parquet

LISTS = ["true_labels", "predicted_labels", "tags"]

parquet, csv = sys.argv[1:]
table = pyarrow.parquet.read_table(parquet)

# Words as they stand, numbers to the last bit; what is undefined is an empty cell.
frame = pandas.read_csv(csv, float_precision="round_trip", keep_default_na=False, na_values={"outcome": [""], "note": [""]})
rows = json.loads(frame.to_json(orient="records", double_precision=15))
for row, exact in zip(rows, frame.to_dict(orient="records")):
    for name in LISTS:
        row[name] = row[name].split("; ") if row[name] else []
    for name in ["coarse_probability", "margin", "loss"]:
        row[name] = exact[name]

print(json.dumps({
    "parquet": table.to_pylist(),
    "types": {field.name: str(field.type) for field in table.schema},
    "pandas": [str(dtype) for dtype in pandas.read_parquet(parquet).dtypes],
    "csv": rows,
}))
