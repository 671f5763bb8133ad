"""The quickstart's figures in the README are those of the records in docs/quickstart, which are of the shipped file."""

import gzip
import json
import re
import statistics
from pathlib import Path

import pytest
from scipy import stats

from tune.sweep_file import load_sweep

ROOT = Path(__file__).parents[2]
LINES = gzip.decompress((ROOT / "docs/quickstart/archive.jsonl.gz").read_bytes()).splitlines()
RECORDS = {line["path"].removeprefix("quickstart/"): line["record"] for line in map(json.loads, LINES)}
SWEEP = load_sweep("quickstart")
STEPS = str(max(SWEEP.evaluations[0].budgets))
README = (ROOT / "README.md").read_text()
ROWS = dict(re.findall(r"^\| `([\w-]+)` \|.*?\| ([^|]*\|[^|]*) \|$", README, re.MULTILINE))


def accuracies(method):
    """Of its last stage after the longest training, by seed."""
    found = {}
    for name, config in SWEEP.trials.items():
        if config.method == method:
            stage = f"{name}/stage-{config.num_stages:02d}/evaluations/"
            (evaluation,) = (record for path, record in RECORDS.items() if path.startswith(stage))
            found[config.seed] = evaluation["accuracy"][STEPS]["mean"]
    return [found[seed] for seed in sorted(found)]


def test_the_records_are_of_the_sweep_that_is_shipped():
    own = ("device", "ppodd", "sha256")
    for name, config in SWEEP.trials.items():
        kept = {field: value for field, value in RECORDS[f"{name}/config.json"].items() if field not in own}
        assert kept == {field: json.loads(json.dumps(getattr(config, field))) for field in kept}


@pytest.mark.parametrize("method", sorted({config.method for config in SWEEP.trials.values()}))
def test_the_readmes_table_is_of_the_records(method):
    values = accuracies(method)
    shown, lead = (cell.strip() for cell in ROWS[method].split("|"))
    mean, _, std = shown.partition(" ± ")
    assert mean == f"{statistics.fmean(values):.1f}" and std in ("", f"{statistics.stdev(values):.1f}")
    if lead:
        differences = [own - real for own, real in zip(values, accuracies("downscaled"), strict=True)]
        middle = statistics.fmean(differences)
        half = stats.t.ppf(0.975, len(differences) - 1) * stats.sem(differences)
        assert lead == f"{middle:+.1f} ({middle - half:.1f} to {middle + half:.1f})"
