"""A small archive as this version writes it: `python tests/upgrade/write_archive.py FOLDER`.

Each release keeps one, named by its version, beside this file; `test_upgrade.py` has every later version resume,
evaluate, sync and report it. The folder holds the sweeps' files, and in `archive/`

    grown/       a sweep of two trials, an evaluation added later:
                 seed=0 whole and evaluated in both ways, but for one evaluation that was given up;
                 seed=1 failed in the middle of its second stage, after a resume checkpoint
    thinned/     a sweep of which a scheduler stopped one trial early
    runs/        posters imported from PoDD's files; a run that waits for a stage accuracy (its candidate)
"""

import contextlib
import sys
import tempfile
import time
from pathlib import Path

import torch
import yaml

from ppodd.archive import Archive, EvaluationFailureRecord, FailureRecord, StopRecord
from ppodd.config import DistillConfig, EvaluationConfig, build, preset
from ppodd.distillation import run
from ppodd.distillation.imported import import_posters, load_posters
from ppodd.evaluation import evaluate_archived, works
from tune.running.claim import write_claim
from tune.sweep_file import load_sweep

SMALL = {
    "poster_width": 24, "poster_height": 12, "patch_num_x": 6, "patch_num_y": 2, "distill_batch_size": 6,
    "width": 4, "window": 2, "totwindow": 4, "epochs": 4, "steps_per_epoch": 2, "batch_size": 64,
    "stage_nets": 2, "stage_steps": 3, "num_train_eval": 2, "budgets": [2, 4], "inner_lr": 0.01, "lr": 0.05,
    "checkpoint_every": 1, "print_freq": 1, "class_order": "means", "device": "cpu",
}  # fmt: skip
GROWN = {
    "name": "grown", "description": "What a later version must still read.", "preset": "digits-small",
    "config": {**SMALL, "num_stages": 2, "train_y": True, "train_lr": True}, "seeds": [0, 1],
}  # fmt: skip


class Interrupted(Exception):
    """What ends a run in the middle here."""


def sweep_in(archive, folder, values):
    path = folder / f"{values['name']}.yaml"
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    sweep = load_sweep(str(path))
    write_claim(sweep, archive)
    return sweep


def grown(archive, folder):
    sweep = sweep_in(archive, folder, GROWN)
    archive.add_evaluation("grown", EvaluationConfig(mode=("latest",), arch=("convnetw",), nets=1))
    whole, failed = (archive.trial("grown", name) for name in sweep.trials)
    list(run(sweep.trials[whole.trial], whole))
    for stage in whole.stages():
        for work in works(whole, stage, archive.evaluations("grown")):
            if (stage, work.protocol.mode) == (2, "latest"):
                give_up(whole, work)
            else:
                evaluate_archived(work, "cpu")
    with contextlib.suppress(Interrupted):
        list(run(sweep.trials[failed.trial], failed, progress=fail_in_stage_two))
    error = "NonFinite: the meta-loss is nan at stage 2, meta-step 3"
    failed.write_failure(FailureRecord(error=error, failed_at=time.time()))


def fail_in_stage_two(now):
    if (now.stage, now.meta_step) == (2, 3):
        raise Interrupted


def give_up(trial, work):
    trial.write_evaluation_failure(
        EvaluationFailureRecord(
            ticket=work.ticket,
            stage=work.stage,
            protocol=work.protocol,
            error="RuntimeError: lost",
            attempts=3,
            failed_at=time.time(),
        )
    )


def thinned(archive, folder):
    values = {"name": "thinned", "preset": "digits-small", "scheduler": {"kind": "asha"}, "seeds": [0, 1]}
    sweep = sweep_in(archive, folder, {**values, "config": {**SMALL, "num_stages": 2}})
    one, two = (archive.trial("thinned", name) for name in sweep.trials)
    list(run(sweep.trials[one.trial], one))
    next(run(sweep.trials[two.trial], two))
    why = "stage_accuracy 10 after 2 epochs, not among the best 1 in 2 there"
    two.write_stopped(StopRecord(scheduler="asha", stage=1, why=why, stopped_at=time.time()))


def imported(archive, folder):
    source = archive.trial("grown", archive.trials("grown")[0])
    files = []
    for stage in source.stages():
        poster, labels = folder / f"podd{stage}_poster.pt", folder / f"podd{stage}_label.pt"
        held = source.poster(stage)
        torch.save(torch.from_numpy(held.poster)[None], poster)
        torch.save(torch.from_numpy(held.labels)[None], labels)
        files.append((poster, labels))
    values = {**preset("digits-small"), **SMALL, "name": "imported", "num_stages": 2, "train_y": True}
    list(import_posters(build(DistillConfig, values), archive.trial("runs", "imported"), load_posters(files)))


def waiting(archive):
    values = {**preset("digits-small"), **SMALL, "name": "waiting", "num_stages": 1}

    def leave(*_):
        raise Interrupted

    with contextlib.suppress(Interrupted):
        list(run(build(DistillConfig, values), archive.trial("runs", "waiting"), measure=leave))


def main():
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    archive = Archive(folder / "archive")
    folder.mkdir()
    grown(archive, folder)
    thinned(archive, folder)
    waiting(archive)
    with tempfile.TemporaryDirectory() as elsewhere:
        imported(archive, Path(elsewhere))


if __name__ == "__main__":
    main()
