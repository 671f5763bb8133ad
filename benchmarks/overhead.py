"""What the service costs beside the trials: a sweep's wall time against its trials' own time divided by the slots.

    python benchmarks/overhead.py [--trials 16] [--epochs 45] [--slots 2]

Trials of a minute or more on digits. A trial's own time runs from the moment it claims its folder to its last stage, as
the archive says; what is left of the wall time is Ray, Tune, process starts, loading, the watch, the MLflow sync, and
slots that are empty at the end. Run twice: without evaluators, and with one that reserves nothing (it takes what the
trials leave of their cores, and ends after them).
"""

# ruff: noqa: E402

import argparse
import os
import tempfile
import time
from pathlib import Path

import yaml

from cluster import prepare

prepare()  # before anything imports Ray

from ppodd.archive import Archive
from results.tracking.store import default_tracking_uri
from tune.running import sweep as running
from tune.sweep_file import load_sweep


def run(folder, trials, epochs, slots, evaluate):
    """Wall seconds until the first trial begins, until the last stage, and in all; and the trials' own seconds."""
    values = {
        "name": "overhead",
        "preset": "digits",
        "config": {"epochs": epochs, "num_stages": 3},
        "seeds": list(range(trials)),
        "max_concurrent": slots,
        "evaluation": {"nets": 4, "budgets": [100]},
        "evaluators": {"cpus": 0},
    }
    path = Path(folder, "sweep.yaml")
    path.write_text(yaml.safe_dump(values))
    archive = Archive(f"{folder}/{'with' if evaluate else 'without'}")
    sweep = load_sweep(str(path))
    started = time.time()
    if not evaluate:
        # nobody takes up what the trials archive
        running.evaluators.start, start = lambda *args, **kwargs: None, running.evaluators.start
        running.evaluators.wait, wait = lambda *args, **kwargs: {"sweeps": []}, running.evaluators.wait
    try:
        outcome = running.run_sweep(sweep, archive.url, default_tracking_uri(archive.url))
    finally:
        if not evaluate:
            running.evaluators.start, running.evaluators.wait = start, wait
    wall = time.time() - started
    assert not outcome.unfinished
    own, first, last = 0.0, float("inf"), 0.0
    for name in sweep.trials:
        trial = archive.trial("overhead", name)
        end = trial.stage(3).finished_at
        begun = os.stat(f"{trial.url}/config.json").st_mtime
        own += end - begun
        first, last = min(first, begun), max(last, end)
    return first - started, last - started, wall, own


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=45)
    parser.add_argument("--slots", type=int, default=os.cpu_count())
    args = parser.parse_args()
    os.environ["PYTHONPATH"] = str(Path(__file__).parents[1])
    with tempfile.TemporaryDirectory() as folder:
        for evaluate in (False, True):
            until_first, until_last, wall, own = run(folder, args.trials, args.epochs, args.slots, evaluate)
            ideal = own / args.slots
            print(
                f"evaluators {'on ' if evaluate else 'off'}: {args.trials} trials of {own / args.trials:.0f} s on "
                f"{args.slots} slots, ideal {ideal:.0f} s; first begun after {until_first:.0f} s; last stage after "
                f"{until_last:.0f} s "
                f"({until_last / ideal - 1:+.1%}), in all {wall:.0f} s ({wall / ideal - 1:+.1%})",
                flush=True,
            )


if __name__ == "__main__":
    main()
