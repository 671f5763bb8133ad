"""Sweep files to submit, and what the archive holds of them."""

import yaml


def sweep_file(folder, tiny, name, **changes):
    without = {"num_stages", "device", *changes.get("grid", {})}
    config = {k: list(v) if isinstance(v, tuple) else v for k, v in tiny.items() if k not in without}
    values = {
        "name": name,
        "preset": "digits-small",
        "config": {**config, **changes.pop("config", {})},
        "grid": {"num_stages": [1, 2]},
        "evaluators": {"cpus": 0},
        **changes,
    }
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    return path


def evaluations(archive, sweep):
    trials = [archive.trial(sweep, name) for name in archive.trials(sweep)]
    return [len(trial.evaluations(stage)) for trial in trials for stage in trial.stages()]
