"""What results cost with thousands of trials: syncs, table and report of a whole archive, each a command of its own.

    python benchmarks/scale.py [--trials 3334] [--stages 3] [--folder FOLDER]

Makes the archive first (or takes the one that `--folder` holds), by hand: real records, no distillation. Seconds and
peak memory are those of the command, its start included.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "support"))  # which makes archives by hand

from archives import write_sweep  # noqa: E402

from ppodd.archive import Archive  # noqa: E402
from ppodd.config import EvaluationConfig, preset  # noqa: E402

EVALUATION = EvaluationConfig(nets=8, budgets=(300, 600, 1000, 2000))
SEEDS = 10


def make(archive, trials, stages):
    settings = [
        {**preset("digits-small"), "num_stages": stages, "seed": number % SEEDS, "lr": 1e-4 * (1 + number // SEEDS)}
        for number in range(trials)
    ]
    write_sweep(archive, "many", settings, EVALUATION)


def measured(name, *arguments, environment):
    """Run a command of ours; print how long it took, and its peak memory."""
    started = time.perf_counter()
    command = subprocess.Popen(
        [sys.executable, "-m", "ppodd", "results", *arguments], env=environment, stdout=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(command.pid, 0)
    seconds, peak = time.perf_counter() - started, usage.ru_maxrss / 1024
    assert status == 0, f"{name} failed"
    print(f"{name:18} {seconds:7.1f} s ({usage.ru_utime + usage.ru_stime:.1f} s of a core), {peak:.0f} MiB", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=3334)
    parser.add_argument("--stages", type=int, default=3)
    parser.add_argument("--folder", help="keep the archive there, to measure again")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(args.folder or temporary).absolute()
        archive = Archive(folder / "archive")
        if not archive.sweeps():
            started = time.perf_counter()
            make(archive, args.trials, args.stages)
            print(f"made {args.trials} trials × {args.stages} stages in {time.perf_counter() - started:.0f} s")
        store = folder / "mlflow.db"
        for file in folder.glob("mlflow.db*"):
            file.unlink()
        shutil.rmtree(folder / "mlflow-artifacts", ignore_errors=True)
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "MLFLOW_TRACKING_URI": f"sqlite:///{store}"}
        where = ["--archive", archive.url]
        measured("first sync", "sync", *where, environment=environment)
        measured("nothing new", "sync", *where, environment=environment)
        measured("table", "table", *where, environment=environment)
        measured("report", "report", "-o", str(folder / "report.html"), *where, environment=environment)
        sizes = [path.stat().st_size / 2**20 for path in (store, folder / "report.html")]
        print("store {:.0f} MiB, report {:.1f} MiB".format(*sizes))


if __name__ == "__main__":
    main()
