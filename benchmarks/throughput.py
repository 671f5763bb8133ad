"""How many stages a second go through coordinator, archive and MLflow, when trials and evaluations cost nothing.

    python benchmarks/throughput.py [--trials 500] [--stages 5] [--evaluators 2]

Trials write real stages of a tiny poster into a real archive, one after another; evaluators are the real ones but that
they write an evaluation down at once instead of training networks. Nothing else is left out: leases, listings, MLflow.
At the end every stage must have its evaluation, in the archive and in MLflow, once.
"""

# ruff: noqa: E402

import argparse
import os
import tempfile
import time
from pathlib import Path

import numpy as np

from cluster import prepare

prepare()  # before anything imports Ray

from cluster.dispatch.pool_request import Pool
from cluster.service import client as evaluators
from cluster.service import coordinator
from cluster.service.evaluator import Evaluator
from cluster.service.ray_runtime import connect
from ppodd import __version__
from ppodd.archive import (
    SCHEMA,
    Accuracy,
    Archive,
    Data,
    Digests,
    EvaluationRecord,
    MetaLoss,
    PixelBudget,
    PosterFile,
    StageAccuracy,
    StageBudget,
    StageRecord,
    SweepRecord,
    SweepTrial,
    TrialArchive,
    storage_bytes,
)
from ppodd.config import DistillConfig, build
from ppodd.config.presets import preset
from results.analysis.tidy_frame import frame
from results.tracking.store import default_tracking_uri, open_store

POSTER = PosterFile(np.zeros((1, 12, 24), np.float32), np.eye(10, dtype=np.float32), np.arange(10).reshape(2, 5))


def write_trial(url, values, stages):
    trial = TrialArchive(url)
    trial.create(build(DistillConfig, values), resume=False)
    for stage in range(1, stages + 1):
        trial.write_stage(stage_record(stages, stage), POSTER, b"no picture")


def stage_record(stages, stage):
    weights = (1 / stage,) * stage
    return StageRecord(
        schema=SCHEMA,
        stage=stage,
        num_stages=stages,
        blend_strategy="uniform",
        blend=weights,
        evaluation_blend=weights,
        stage_accuracy=StageAccuracy(**dict(Accuracy.of([50.0, 51.0])), split="validation", steps=3, nets=2),
        leaks_test_set=False,
        meta_loss=MetaLoss(first=2.0, last=1.0, mean=1.5),
        data=Data(name="digits", digest="none", classes=(), shape=(1, 8, 8), images={}),
        versions={"ppodd": __version__},
        device="cpu",
        finished_at=time.time(),
        budgets=StageBudget(**dict(pixels(stage)), meta_steps=stage, seconds=0.0),
        digests=Digests.of(POSTER.digest, b"no picture"),
    )


def pixels(posters):
    return PixelBudget(
        poster_ipc=0.45,
        cumulative_ipc=0.45 * posters,
        poster_floats=POSTER.poster.size,
        label_floats=0,
        storage_bytes=storage_bytes(POSTER, posters),
    )


class InstantEvaluator(Evaluator):
    """An evaluator that knows the result."""

    def _values(self, work):
        record = EvaluationRecord(
            schema=SCHEMA,
            ticket=work.ticket,
            stage=work.stage,
            protocol=work.protocol,
            blend=(1 / work.stage,) * work.stage,
            posters=(POSTER.digest,) * work.stage,
            accuracy={budget: Accuracy.of([50.0, 52.0]) for budget in work.protocol.budgets},
            split="test",
            leaks_test_set=False,
            budgets=pixels(work.stage),
            seconds=0.0,
            device="cpu",
            versions={"ppodd": __version__},
            finished_at=time.time(),
        )
        TrialArchive(work.trial_url).write_evaluation(record)


class InstantCoordinator(coordinator.Coordinator):
    """A coordinator, in a process of its own, whose evaluators are such ones."""

    def __init__(self):
        super().__init__(InstantEvaluator)


def main():
    import ray

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=500)
    parser.add_argument("--stages", type=int, default=5)
    parser.add_argument("--evaluators", type=int, default=2)
    args = parser.parse_args()
    wanted = args.trials * args.stages
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parents[1]), str(Path(__file__).parent)])
    with tempfile.TemporaryDirectory() as folder:
        archive = Archive(f"{folder}/archive")
        configs = {
            f"seed={seed}": {**preset("digits-small"), "num_stages": args.stages, "seed": seed, "name": f"seed={seed}"}
            for seed in range(args.trials)
        }
        trials = tuple(SweepTrial(name=name, config=values) for name, values in configs.items())
        record = SweepRecord(schema=SCHEMA, name="many", trials=trials, created_at=0.0, varied=("seed",))
        archive.write_sweep(record)
        uri = default_tracking_uri(archive.url)
        open_store(uri)
        connect(None, cpus=os.cpu_count())
        evaluators.CoordinatorActor = ray.remote(**coordinator._OPTIONS)(InstantCoordinator)
        service = evaluators.start(archive.url, "many", uri, Pool(args.evaluators, 0, 0, 3600))
        while sum(one["at"] == "idle" for one in ray.get(service.status.remote())["evaluators"]) < args.evaluators:
            time.sleep(0.1)
        write = ray.remote(num_cpus=1)(write_trial)
        started = time.perf_counter()
        ray.get([write.remote(archive.trial("many", name).url, v, args.stages) for name, v in configs.items()])
        written = time.perf_counter() - started
        while (status := ray.get(service.status.remote()))["done"] < wanted:
            assert not status["failed"], status["failed"]
            time.sleep(0.2)
        evaluated = time.perf_counter() - started
        ray.get(service.sync.remote(every=True))
        logged = time.perf_counter() - started
        rows = frame(uri, ["many"])
        shown = rows.groupby(["trial", "stage"]).ngroups
        on_disk = sum(len(archive.trial("many", n).evaluations(s)) for n in configs for s in range(1, args.stages + 1))
        evaluators.stop()
        ray.shutdown()
    assert on_disk == shown == wanted, (on_disk, shown, wanted)
    print(f"{args.trials} trials × {args.stages} stages on {os.cpu_count()} cores, {args.evaluators} evaluators")
    for what, seconds in (("archived", written), ("and evaluated", evaluated), ("and in MLflow", logged)):
        print(f"{what:15} after {seconds:6.1f} s: {wanted / seconds:6.1f} stages a second")
    print(f"lost: {wanted - on_disk} in the archive, {wanted - shown} in MLflow")


if __name__ == "__main__":
    main()
