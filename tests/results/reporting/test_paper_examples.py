"""Every example sweep loads, and covers the published table it is named after."""

import re
from pathlib import Path

import pytest
from frames import rows

from ppodd.datasets.sources import SPECS
from results.analysis.published_numbers import TABLES
from results.reporting.paper import beside
from tune.sweep_file import load_sweep

EXAMPLES = sorted((Path(__file__).parents[3] / "examples").glob("*.yaml"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_loads_under_its_own_name(path):
    sweep = load_sweep(str(path))
    assert sweep.name == path.stem and len({config.seed for config in sweep.trials.values()}) >= 2


@pytest.mark.parametrize("scale", ["", "-small"])
@pytest.mark.parametrize("name", TABLES)
def test_an_example_covers_every_row_of_its_table(name, scale):
    (path,) = [path for path in EXAMPLES if path.stem == f"paper-{name}{scale}"]
    configs = list(load_sweep(str(path)).trials.values())
    for row in TABLES[name].rows:
        wanted = {key: value if isinstance(value, tuple) else (value,) for key, value in row.at.items()}
        ipc = wanted.pop("poster_ipc", None)
        for blend in wanted.pop("blend"):
            found = [
                config
                for config in configs
                if config.blend == blend
                and all(getattr(config, key) in values for key, values in wanted.items())
                and (ipc is None or abs(config.geometry.ipc(SPECS[config.dataset]) - ipc[0]) < 0.015)
            ]
            assert {config.seed for config in found} == {0, 1, 2}, (row, blend)


@pytest.mark.parametrize("name", TABLES)
def test_a_twin_is_laid_beside_its_table_and_said_to_be_scaled_down(name):
    configs = load_sweep(str(EXAMPLES[0].parent / f"paper-{name}-small.yaml")).trials.values()
    trials = [
        {**config.model_dump(), "accuracy": 50.0 + config.seed, "leaks_test_set": config.blend == "released"}
        for config in configs
    ]
    table, notes = beside(rows(trials), TABLES[name])
    assert (table["seeds"] == 3).all() and (table["accuracy_pct"] == 51).all() and (table["std_pct"] == 1).all()
    assert {row.accuracy_pct for row in TABLES[name].rows} == set(table["published_pct"])
    assert any(
        re.match(r"SCALED DOWN: .* meta-steps on digits, .*published: 1500 meta-steps on cifar10", n) for n in notes
    )
    assert any("42.3 at 0.3 IPC" in note and "100,000 meta-steps" in note for note in notes) == (name == "ipc")
    assert "measured on digits, published on cifar10: compare the direction, not the numbers" in notes


def test_the_full_scale_is_the_published_one():
    for name in TABLES:
        for config in load_sweep(str(EXAMPLES[0].parent / f"paper-{name}.yaml")).trials.values():
            assert config.dataset == "cifar10" and config.zca and config.num_train_eval == 8
            assert config.epochs * config.steps_per_epoch == 1500 and config.budgets[-1] == 2000
