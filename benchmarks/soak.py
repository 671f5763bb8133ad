"""Whether the service's memory stays flat: several sweeps of small trials on one cluster and its pool, for a long time.

    python benchmarks/soak.py [--minutes 60] [--sweeps 8] [--cpus 2] [-o soak.png]

A Ray cluster on loopback; sweeps that have more trials than they can run, each with a driver of its own, that end by
their `sweep_hours`. Every ten seconds the memory of the coordinator, the evaluators and the drivers is read. Plotted
are its courses, printed the change a process makes in an hour once the first third is over, by a line through the rest.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import yaml

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "support"))  # which begins clusters on loopback

from process_tree import private_mib  # noqa: E402
from ray_clusters import RayCluster  # noqa: E402
from tiny import TINY  # noqa: E402

from ppodd.archive import Archive  # noqa: E402
from ppodd.words import counted  # noqa: E402

EVERY_S, PLOT_EVERY_S = 10.0, 300.0
MOST_TRIALS = 5000
MIB = 2**20
KINDS = {"coordinator": re.compile(r"ray::Coordinator"), "evaluator": re.compile(r"ray::Evaluator")}


def sweep_file(folder, name, minutes):
    config = {k: list(v) if isinstance(v, tuple) else v for k, v in TINY.items() if k != "device"}
    values = {
        "name": name,
        "preset": "digits-small",
        "config": {**config, "epochs": 20},
        "seeds": list(range(MOST_TRIALS)),
        "max_concurrent": 1,
        "resources": {"cpus": 0.2},
        "evaluators": {"cpus": 0, "count": 2},
        "limits": {"sweep_hours": minutes / 60},
    }
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def processes(session):
    """Coordinator and evaluators of the cluster that this session of processes is: kind by number."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if os.getsid(int(entry.name)) == session:
                    called = Path(entry, "cmdline").read_text()
                    found |= {int(entry.name): kind for kind, name in KINDS.items() if name.match(called)}
            except OSError:
                continue
    return found


def watch(cluster, drivers, seconds, output):
    """Memory by process, `[(seconds, MiB), …]`, until the drivers have ended; plotted now and then."""
    courses, began, plotted = defaultdict(list), time.monotonic(), 0.0
    while any(driver.poll() is None for driver in drivers) and time.monotonic() - began < 2 * seconds + 300:
        now = time.monotonic() - began
        kinds = {driver.pid: f"driver {n}" for n, driver in enumerate(drivers) if now < seconds}
        kinds |= {pid: f"{kind} {pid}" for pid, kind in processes(cluster.head.pid).items()}
        for pid, name in kinds.items():
            if (used := private_mib(pid)) is not None:
                courses[name].append((now, used))
        if now - plotted > PLOT_EVERY_S:
            plotted = now
            plot(courses, output, f"{counted(len(drivers), 'sweep')}, {now / 60:.0f} minutes so far")
        time.sleep(EVERY_S)
    return courses


def growth(course, seconds):
    """MiB an hour after the first third, by least squares; nothing of a process that was not there for most of it."""
    late = np.array([point for point in course if point[0] > seconds / 3])
    if len(late) < seconds / 2 / EVERY_S / 2:
        return None
    return 3600 * np.polyfit(late[:, 0], late[:, 1], 1)[0]


def plot(courses, path, title):
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 3.5), layout="constrained")
    colours = {"coordinator": "tab:red", "evaluator": "tab:blue", "driver": "tab:gray"}
    for name, course in courses.items():
        kind = name.split()[0]
        known = {line.get_label() for line in axes.lines}
        times, used = np.array(course).T
        axes.plot(times / 60, used, color=colours[kind], lw=1, label=kind if kind not in known else f"_{name}")
    axes.set(xlabel="minutes", ylabel="private memory, MiB", ylim=(0, None), title=title)
    axes.legend()
    figure.savefig(path, dpi=110)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--sweeps", type=int, default=8)
    parser.add_argument("--cpus", type=int, default=2)
    parser.add_argument("-o", "--output", default="soak.png")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, RayCluster(Path(folder), cpus=args.cpus) as cluster:
        archive, drivers = Archive(f"{folder}/archive"), []
        for number in range(args.sweeps):
            file = sweep_file(Path(folder), f"soak{number}", args.minutes)
            command = [sys.executable, "-m", "ppodd", "sweep", str(file), "--archive", archive.url]
            with open(f"{folder}/driver-{number}.log", "w") as log:
                begin = [*command, "--ray-address", cluster.address]
                drivers.append(subprocess.Popen(begin, env=cluster.env, stdout=log, stderr=log))
        try:
            courses = watch(cluster, drivers, 60 * args.minutes, args.output)
        finally:
            for driver in drivers:
                driver.terminate()
                driver.wait()
        logs = [Path(folder, f"driver-{number}.log").read_text() for number in range(args.sweeps)]
        stages = evaluations = 0
        for sweep in archive.sweeps():
            for state in archive.states(sweep).values():
                stages += len(state.stages)
                evaluations += sum(len(state.evaluations(stage)) for stage in state.stages)
    done = f"{counted(args.sweeps, 'sweep')}, {args.minutes:g} minutes: {stages:,} stages, {evaluations:,} evaluations"
    print(done)
    for name, course in sorted(courses.items()):
        change = growth(course, 60 * args.minutes)
        said = "not there for long enough" if change is None else f"{change:+.1f} MiB an hour"
        print(f"{name:20} {course[0][1]:4.0f} → {course[-1][1]:4.0f} MiB, {said}")
    plot(courses, args.output, done)
    for log in logs:
        assert "limits (sweep_hours" in log, log[-2000:]


if __name__ == "__main__":
    main()
