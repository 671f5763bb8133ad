"""Small sweeps, the command that runs them, and what came of them."""

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path

import yaml

PATH = {"PYTHONPATH": str(Path(__file__).parents[2])}


def sweep_file(tmp_path, tiny, **changes):
    without = {"num_stages", "device", *changes.get("grid", {})}
    values = {
        "name": "tiny",
        "preset": "digits-small",
        "config": {k: list(v) if isinstance(v, tuple) else v for k, v in tiny.items() if k not in without},
        "grid": {"num_stages": [1, 2]},
        "seeds": [0],
        "evaluators": {"cpus": 0},
        **changes,
    }
    path = tmp_path / "sweep.yaml"
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    return str(path)


def command(*arguments):
    code = "import sys; from ppodd.cli.main import main; sys.exit(main())"
    return [sys.executable, "-c", code, *arguments]


def ppodd(*arguments, cwd):
    return subprocess.run(command(*arguments), capture_output=True, text=True, cwd=cwd, env={**os.environ, **PATH})


@contextlib.contextmanager
def started(command, **how):
    """A process that runs the command, and does not outlive a test that fails while it runs."""
    with subprocess.Popen(command, text=True, **how) as process:
        try:
            yield process
        except BaseException:
            process.kill()
            raise


def wait_for(condition, seconds=240):
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.05)
    return found


def evaluated(archive, sweep):
    return {
        (name, stage): archive.trial(sweep, name).evaluations(stage)
        for name in archive.trials(sweep)
        for stage in archive.trial(sweep, name).stages()
    }


def finished_at(archive, sweep):
    """When each archived stage of a sweep was finished, by trial and stage."""
    trials = {name: archive.trial(sweep, name) for name in archive.trials(sweep)}
    return {(name, s): trial.stage(s).finished_at for name, trial in trials.items() for s in trial.stages()}


def jobs_of(plan):
    """What Tune is given, trial by trial, of trials that are known."""
    jobs = []
    while not plan.trials.done:
        jobs.append(plan.trials.suggest(str(len(jobs)))["trial"])
    return jobs
