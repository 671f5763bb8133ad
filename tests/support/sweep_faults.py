"""Processes of a running sweep killed at random moments: those of ppodd and those of Ray, found by their ancestry.

The sweep is resumed until it is done, and compared with one that nobody disturbed, as in `faults.py`. Each kill is
printed with its moment and the seed.

    python tests/support/sweep_faults.py --count 20 --seed 1
"""

import argparse
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from process_tree import called, descendants
from small_sweep import contents, differences, rows_without
from sweeps import PATH, command, sweep_file
from tiny import TINY

from ppodd.archive import Archive

LONGEST_S = 900.0  # of a sweep here: what takes longer hangs
GONE_S = 20.0  # after which no process of an ended sweep may be left
SWEEP = {**TINY, "epochs": 60}
CORES = {"resources": {"cpus": 0.5}, "evaluators": {"cpus": 0.5}}  # evaluators of none would yield to all else
LATEST_S = 6.0  # after a process is seen, it is killed
KINDS = {
    "trial": r"^ray::(ImplicitFunc|trial)",
    "evaluator": r"^ray::Evaluator",
    "coordinator": r"^ray::Coordinator",
    "gcs": r"^\S*/gcs_server ",
    "raylet": r"^\S*/raylet ",
}


class Sweep:
    """A sweep in a folder, and what its drivers said."""

    def __init__(self, folder):
        self.folder, self.begun, self.began, self.seen = folder, 0, 0.0, {}
        folder.mkdir(parents=True)
        self.file = sweep_file(folder, SWEEP, seeds=[0, 1], evaluation={"mode": ["blend", "latest"]}, **CORES)
        self.archive = Archive(folder / "ppodd-archive")

    def start(self):
        """Begin its driver, or go on with it."""
        self.begun, self.began = self.begun + 1, time.monotonic()
        log = open(self.folder / f"driver-{self.begun}.log", "w")  # noqa: SIM115
        resume = ["--resume"] if self.begun > 1 else []
        environment = {**os.environ, **PATH, "OMP_NUM_THREADS": "1", "MLFLOW_DISABLE_TELEMETRY": "true"}
        return subprocess.Popen(
            command("sweep", self.file, *resume), cwd=self.folder, env=environment, stdout=log, stderr=log
        )

    def said(self):
        return (self.folder / f"driver-{self.begun}.log").read_text()[-1500:]

    def held(self):
        """What its archive holds, but for pictures, and for which trial was the first to read its data."""
        found = contents(self.archive, "tiny")
        return {
            name: held
            for name, held in found.items()
            if name != "accuracy-vs-ipc.png" and "sweep.json" not in name and not name.startswith("data/")
        }

    def table(self):
        out = self.folder / "table.csv"
        subprocess.run(
            command("results", "table", "-o", str(out)), cwd=self.folder, env={**os.environ, **PATH}, check=True
        )
        return rows_without("seconds", out)

    def look(self, driver):
        """What runs now of it; remembered, to be missed in the end."""
        now = descendants(driver.pid)
        self.seen |= now
        return now

    def left(self):
        """Processes that are there, though it has ended."""
        end = time.monotonic() + GONE_S
        while True:
            there = {pid: name for pid, name in self.seen.items() if called(pid) == name}
            if not there or time.monotonic() > end:
                return there
            time.sleep(0.5)


def finish(sweep, driver=None):
    """Go on until it is done. Raises `AssertionError` where it does not come to that."""
    for _ in range(6):
        driver = driver or sweep.start()
        end = time.monotonic() + LONGEST_S
        while driver.poll() is None:
            assert time.monotonic() < end, f"it hangs: {sweep.said()}"
            sweep.look(driver)
            time.sleep(0.3)
        if driver.returncode == 0:
            return
        driver = None
    raise AssertionError(f"it is not done after 6 drivers: {sweep.said()}")


def name(kind):
    return f"{kind} of a sweep, SIGKILL"


def waited(there, driver):
    """Wait until something is there; whether it came to that while the driver ran."""
    while driver.poll() is None:
        if there():
            return True
        time.sleep(0.1)
    return False


def kill(sweep, driver, dice, injected):
    """Kill one of its processes, of a kind that had few kills so far, at a random moment of its life.

    Returns whether there was one to kill before the sweep ended.
    """
    kinds = ["driver", *KINDS]
    fewest = min(injected[name(kind)] for kind in kinds)
    kind = dice.choice([kind for kind in kinds if injected[name(kind)] == fewest])

    def victims():
        if kind == "driver":
            return [driver.pid]
        return sorted(pid for pid, said in sweep.look(driver).items() if re.search(KINDS[kind], said))

    if not waited(victims, driver):
        return False
    moment = time.monotonic() + dice.uniform(0, LATEST_S)
    waited(lambda: time.monotonic() > moment, driver)
    there = victims()
    if driver.poll() is not None or not there:
        return False
    pid = dice.choice(there)
    os.kill(pid, signal.SIGKILL)
    injected[name(kind)] += 1
    moment = time.monotonic() - sweep.began
    print(f"{sum(injected.values())}: {kind}, process {pid}, {moment:.1f} s after its driver began", flush=True)
    if kind == "driver":
        driver.wait()
    return True


def check(sweep, undisturbed):
    """What was lost, doubled, changed or left over."""
    if wrong := differences(sweep.held(), undisturbed.held()):
        yield f"{len(wrong)} files differ: {sorted(wrong)[:3]}"
    if sweep.table() != undisturbed.table():
        yield "MLflow shows another table"
    if left := sweep.left():
        yield f"processes are left: {left}"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    print(f"seed {args.seed}", flush=True)
    dice, injected, losses, rounds = random.Random(args.seed), Counter(), [], 0
    with tempfile.TemporaryDirectory() as folder:
        undisturbed = Sweep(Path(folder, "undisturbed"))
        finish(undisturbed)
        while sum(injected.values()) < args.count:
            rounds += 1
            sweep = Sweep(Path(folder, f"round-{rounds}"))
            driver, most = sweep.start(), dice.randint(3, 8)  # more, and Tune gives its trials up
            began = time.monotonic()
            while most and sum(injected.values()) < args.count and time.monotonic() < began + LONGEST_S:
                most -= kill(sweep, driver, dice, injected)
                if driver.poll() == 0:
                    break
                if driver.poll() is not None:
                    driver = sweep.start()
            try:
                finish(sweep, driver)
                lost = list(check(sweep, undisturbed))
            except AssertionError as error:
                lost = [str(error)]
            losses += [f"round {rounds}: {one}" for one in lost]
            for one in lost:
                print(f"LOST in round {rounds}: {one}", flush=True)
    for kind, times in sorted(injected.items()):
        print(f"{kind}: {times}")
    print(f"injected {sum(injected.values())}, lost {len(losses)}", flush=True)
    return 1 if losses else 0


if __name__ == "__main__":
    sys.exit(main())
