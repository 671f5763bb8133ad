"""Reading a store of many runs into one frame, against the straightforward loop over runs.

    python benchmarks/results_read.py [--runs 1000] [--stages 5] [--loop-runs 1000] [--store FILE.db]

Makes the store first (or takes one that is there). The loop asks MLflow for every metric history of every run, as the
client offers it; `--loop-runs` reads only so many runs that way and scales its time up, and says so.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import pandas as pd
from mlflow.entities import Metric, Param, RunTag

from ppodd.config import DistillConfig, build
from ppodd.config.presets import preset
from results.analysis.tidy_frame import frame
from results.tracking import schema
from results.tracking.store import open_store

BUDGETS = (300, 600, 1000, 2000)


def metrics(stage, seed):
    """Those of a finished stage with one evaluation, as `results.sync` logs them."""
    own = [(name, float(stage)) for name in (schema.POSTER_IPC, schema.CUMULATIVE_IPC, schema.STORAGE)]
    own += [(name, float(stage)) for name in (schema.META_STEPS, schema.DISTILL_SECONDS, schema.META_LOSS)]
    own += [(schema.STAGE_ACCURACY, 50.0), (f"{schema.STAGE_ACCURACY}/std", 1.0)]
    own += [(f"blend/stage_{s:02d}", 1 / stage) for s in range(1, stage + 1)]
    for budget in BUDGETS:
        names = schema.AccuracyMetric("blend", "convnet", "", budget)
        own += [(names.mean, 50.0 + stage + seed / 10), (names.std, 0.5), (names.nets, 8.0)]
    return [Metric(name, value, 1_700_000_000_000 + stage, stage) for name, value in own]


def make(uri, runs, stages):
    client = open_store(uri)
    experiment = client.create_experiment("many")
    parent = client.create_run(experiment, tags={schema.KEY: "many", schema.SCHEMA_TAG: schema.SCHEMA})
    for number in range(runs):
        values = {**preset("cifar10"), "num_stages": stages, "seed": number % 10, "lr": 0.001 * (1 + number // 10)}
        params = [Param(name, value) for name, value in schema.params(build(DistillConfig, values)).items()]
        tags = {
            schema.KEY: f"many/t{number:04d}", schema.SCHEMA_TAG: schema.SCHEMA, schema.PARENT: parent.info.run_id,
            schema.STATUS: "finished", schema.OWN_PROTOCOL: "own",
            schema.PROTOCOL + "own": json.dumps({"departs": ""}),
        }  # fmt: skip
        run = client.create_run(experiment)
        logged = [metric for stage in range(1, stages + 1) for metric in metrics(stage, number % 10)]
        client.log_batch(run.info.run_id, logged, params, [RunTag(k, v) for k, v in tags.items()])


def loop(uri, limit):
    """A run at a time, a metric at a time."""
    client = open_store(uri)
    rows = []
    experiment = client.get_experiment_by_name("many").experiment_id
    runs = [run for run in client.search_runs([experiment], max_results=5000) if schema.PARENT in run.data.tags]
    for run in runs[:limit]:
        history = {key: client.get_metric_history(run.info.run_id, key) for key in run.data.metrics}
        for key, values in history.items():
            if accuracy := schema.AccuracyMetric.parse(key):
                rows += [{**run.data.params, "steps": accuracy.steps, "stage": m.step, "v": m.value} for m in values]
    return pd.DataFrame(rows)


def timed(do):
    started = time.perf_counter()
    result = do()
    return result, time.perf_counter() - started


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--stages", type=int, default=5)
    parser.add_argument("--loop-runs", type=int)
    parser.add_argument("--store")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(args.store or Path(folder, "mlflow.db")).absolute()
        uri = f"sqlite:///{path}"
        if not path.exists():
            _, seconds = timed(lambda: make(uri, args.runs, args.stages))
            print(f"made {args.runs} runs × {args.stages} stages in {seconds:.0f} s")
        open_store(uri).search_experiments()  # neither pays for opening
        limit = args.loop_runs or args.runs
        table, fast = timed(lambda: frame(uri))
        slow_table, slow = timed(lambda: loop(uri, limit))
        again, fast_again = timed(lambda: frame(uri))
        assert again.equals(table) and len(table) == args.runs * args.stages * len(BUDGETS)
        assert len(slow_table) == limit * args.stages * len(BUDGETS)
        scaled = slow * args.runs / limit
        how = "" if limit == args.runs else f" (scaled up from {limit} runs in {slow:.1f} s)"
        print(f"frame: {fast:.2f} s and {fast_again:.2f} s for {len(table)} rows")
        print(f"loop over runs: {scaled:.1f} s{how}; ratio {scaled / min(fast, fast_again):.1f}")


if __name__ == "__main__":
    main()
