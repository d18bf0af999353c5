"""How fast reports are answered: the image explorer, the sweep over thresholds, the comparison, lists of runs.

python benches/serving.py target/release/twograin FOLDER     (standard library only)

Makes two data directories of synthetic data in FOLDER (2.5 GB) unless they are there: 100,000 test images × 18 runs with scores,
and 2,000 test images × 10,000 runs without. Each figure is the median or a percentile over requests on one connection, from
sending to the last byte; the throughput is that of eight connections at once, each in a process of its own.
"""

import http.client
import itertools
import json
import multiprocessing
import pathlib
import re
import socket
import statistics
import subprocess
import sys
import time

PORT = 8190


class Server:
    def __init__(self, binary, directory):
        self.process = subprocess.Popen(
            [binary, "serve", "--data-dir", str(directory), "--listen", f"127.0.0.1:{PORT}"], stdout=subprocess.DEVNULL)
        for _ in range(200):
            try:
                socket.create_connection(("127.0.0.1", PORT)).close()
                break
            except OSError:
                time.sleep(0.05)
        self.connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=120)

    def get(self, path):
        """Milliseconds, and the body."""
        start = time.perf_counter()
        self.connection.request("GET", path)
        response = self.connection.getresponse()
        body = response.read()
        taken = 1000 * (time.perf_counter() - start)
        if response.status != 200:
            raise SystemExit(f"{path}: {response.status} {body[:300]}")
        return taken, body

    def stop(self):
        self.process.terminate()
        self.process.wait()


def populate(binary, directory, images, runs, *flags):
    if not directory.exists():
        start = time.time()
        subprocess.run([binary, "bench", "populate", "--data-dir", str(directory), "--images", str(images), "--runs", str(runs),
                        *flags], check=True, stdout=subprocess.DEVNULL)
        print(f"populate: {images} images x {runs} runs in {time.time() - start:.0f} s")


def say(what, times):
    times = sorted(times)
    p95 = times[min(len(times) - 1, int(0.95 * len(times)))]
    print(f"{what:<58} median {statistics.median(times):8.1f}  p95 {p95:8.1f}  most {times[-1]:8.1f} ms  ({len(times)} requests)")


CONDITIONS = [
    "outcome=FFCT", "outcome=FTCT&sort=-loss", "fine=dog", "fine=person&sort=margin", "predicted=dog", "missing=person&sort=-loss",
    "extra=car", "coarse=animal", "coarse=sports&predicted_coarse=animal", "correct=false&sort=-confidence",
    "min_labels=3&sort=loss", "max_labels=1&outcome=FFCT", "min_confidence=0.9&correct=false", "max_confidence=0.3&sort=margin",
    "rule=threshold&threshold=0.5", "rule=threshold&threshold=0.3&outcome=FFCT", "rule=top-k", "rule=top-k&k=2&outcome=FTCT",
    "sort=-loss", "sort=margin",
]
COARSE_CONDITIONS = ["", "correct=false", "coarse=animal&sort=-loss", "sort=margin"]


def explorer(server):
    runs = [run for run in json.loads(server.get("/api/v1/runs?limit=100")[1])["items"] if run["status"] == "succeeded"]
    fine = [run["id"] for run in runs if run["objective"] != "coarse-only"]
    coarse = [run["id"] for run in runs if run["objective"] == "coarse-only"]
    asked = list(itertools.product(fine, CONDITIONS)) + list(itertools.product(coarse, COARSE_CONDITIONS))
    asked += [(run, f"other={other}&differs=true") for run, other in zip(fine, fine[1:])]
    first = []
    for run in fine + coarse:
        first.append(server.get(f"/api/v1/runs/{run}/outcomes")[0])
    say("first look at a run's images (scores are read)", first)
    for what in ["api/v1/runs/{}/outcomes?{}", "runs/{}/images?{}"]:
        for round in ["first round", "second round"]:
            say(f"explorer, {what.split('?')[0]}, {round}",
                [server.get("/" + what.format(run, condition))[0] for run, condition in asked])
    say("explorer, data set: runs disagree",
        [server.get("/datasets/" + runs[0]["dataset"] + "/images?outcomes=differ&sort=right")[0] for _ in range(20)])
    return fine


def sweep(server, fine):
    address = "/api/v1/runs/{}/sweep?over=theta&steps=101"
    say("sweep over 101 thresholds, first time (one pass)", [server.get(address.format(run))[0] for run in fine])
    say("sweep over 101 thresholds, again", [server.get(address.format(run))[0] for run in fine])


def client(path, seconds, counted):
    connection = socket.create_connection(("127.0.0.1", PORT))
    request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{PORT}\r\n\r\n".encode()
    end, count, times = time.perf_counter() + seconds, 0, []
    while (start := time.perf_counter()) < end:
        connection.sendall(request)
        data = b""
        while b"\r\n\r\n" not in data:
            data += connection.recv(1 << 20)
        head, _, body = data.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), head
        left = int(re.search(rb"content-length: (\d+)", head, re.I).group(1)) - len(body)
        while left > 0:
            left -= len(connection.recv(min(left, 1 << 20)))
        count += 1
        times.append(time.perf_counter() - start)
    counted.put((count, statistics.median(times)))


def throughput(path, clients=8, seconds=5):
    counted = multiprocessing.Queue()
    processes = [multiprocessing.Process(target=client, args=(path, seconds, counted)) for _ in range(clients)]
    for process in processes:
        process.start()
    found = [counted.get() for _ in processes]
    for process in processes:
        process.join()
    rate, median = sum(count for count, _ in found) / seconds, statistics.median(median for _, median in found)
    print(f"GET {path}, {clients} clients: {rate:.0f} a second, median {1000 * median:.1f} ms")


def main():
    binary, folder = sys.argv[1], pathlib.Path(sys.argv[2])
    large, many = folder / "large", folder / "many"
    populate(binary, large, 100_000, 18)
    populate(binary, many, 2_000, 10_000, "--without-scores")

    colds = []
    for _ in range(3):
        server = Server(binary, large)
        colds.append(server.get("/api/v1/comparisons")[0])
        if len(colds) < 3:
            server.stop()
    say("comparison of 18 runs with intervals, cold (new server)", colds)
    say("comparison, kept (JSON)", [server.get("/api/v1/comparisons")[0] for _ in range(50)])
    say("comparison, page, first", [server.get("/")[0]])
    say("comparison, page", [server.get("/")[0] for _ in range(50)])
    fine = explorer(server)
    sweep(server, fine)
    server.stop()

    server = Server(binary, many)
    say("10,000 runs: /runs, first", [server.get("/runs")[0]])
    say("10,000 runs: /runs", [server.get("/runs")[0] for _ in range(100)])
    say("10,000 runs: /", [server.get("/")[0] for _ in range(20)])
    throughput("/api/v1/runs?limit=100")
    server.stop()


if __name__ == "__main__":
    main()
