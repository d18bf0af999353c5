"""Waits until a server started with `twograin demo` answers and its comparison is there.   demo_answers.py OUTPUT

OUTPUT: what the server prints, where it says its address. Standard library alone.
"""

import json
import pathlib
import re
import sys
import time
import urllib.request

output = pathlib.Path(sys.argv[1])
start = time.monotonic()


def within(seconds, what, attempt):
    """The first true value of `attempt()`."""
    while time.monotonic() < start + seconds:
        try:
            value = attempt()
            if value:
                print(f"{what} after {time.monotonic() - start:.1f} s", flush=True)
                return value
        except OSError:
            pass
        time.sleep(0.1)
    sys.exit(f"not within {seconds} s: {what}")


def get(path):
    with urllib.request.urlopen(address + path, timeout=10) as answer:
        return answer.read().decode()


def runs():
    # Asking for the runs of a data set that is not there yet may be refused: all runs, then.
    items = json.loads(get("/api/v1/runs?limit=100"))["items"]
    return [run for run in items if run["dataset"] == "demo"]


address = within(20, "an address", lambda: re.search(r"http://[\w.:\[\]]+", output.read_text())).group()
within(30, "/healthz answers", lambda: get("/healthz"))
within(30, "/readyz answers", lambda: get("/readyz"))
within(30, "a page", lambda: "<html" in get("/"))
within(120, "nine runs are queued", lambda: len(runs()) == 9)
within(180, "the first run is under way", lambda: any(run["status"] != "queued" for run in runs()))
within(600, "the whole comparison is there", lambda: all(run["status"] not in ("queued", "running") for run in runs()))
failed = [run["error"] for run in runs() if run["status"] == "failed"]
sys.exit(f"runs failed: {failed}" if failed else 0)
