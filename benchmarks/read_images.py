"""Seconds to read a data set, cold (decoded) and cached, each in a new process; beside another checkout, in turn.

python benchmarks/read_images.py cifar10 --root DATA [--beside CHECKOUT] [--rounds 3]
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

READ = """
import json, resource, sys, time
import torch
from ppodd.config import DistillConfig, build
from ppodd.datasets.loading import load
config = build(DistillConfig, {"dataset": sys.argv[1], "root": sys.argv[2]})
started, used = time.perf_counter(), time.process_time()
dataset = load(getattr(config, "data", config), torch.device("cpu"))
print(json.dumps({
    "seconds": time.perf_counter() - started, "cpu": time.process_time() - used,
    "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, "digest": dataset.digest,
}))
"""


def read(checkout, cache, args):
    environment = {**os.environ, "PYTHONPATH": str(checkout), "PPODD_CACHE": cache}
    done = subprocess.run(
        [sys.executable, "-c", READ, args.dataset, args.root],
        env=environment, cwd=checkout, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return json.loads(done.stdout.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset")
    parser.add_argument("--root", default="dataset")
    parser.add_argument("--beside", help="another checkout to measure in turn")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    args.root = str(Path(args.root).resolve())
    checkouts = {"here": Path(__file__).parents[1]} | ({"beside": Path(args.beside)} if args.beside else {})
    took = {(name, state): [] for name in checkouts for state in ("cold", "cached")}
    for _ in range(args.rounds):
        for name, checkout in checkouts.items():
            with tempfile.TemporaryDirectory() as cache:
                for state in ("cold", "cached"):
                    took[name, state].append(read(checkout, cache, args))
    assert len({one["digest"] for runs in took.values() for one in runs}) == 1, "they read different data"
    for (name, state), runs in took.items():
        seconds, cpu, peak = (statistics.median(run[key] for run in runs) for key in ("seconds", "cpu", "peak_mib"))
        print(f"{name:7} {state:7} {seconds:6.2f} s   {cpu:6.2f} s of processors   peak {peak:6.0f} MiB")


if __name__ == "__main__":
    main()
