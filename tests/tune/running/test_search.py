"""Searched sweeps, early stopping and want of memory: over hand-made archives, and through real Ray and searchers."""

import os
from pathlib import Path

import pytest
import ray
import torch
import yaml
from archives import stage_accuracy, stop, write_stage
from plugins import user_module
from ray.exceptions import OutOfMemoryError
from ray.tune.search import Searcher
from sweeps import finished_at

from cluster.service.ray_runtime import connect
from ppodd.archive import Archive
from ppodd.distillation.archived_run import run
from ppodd.distillation.out_of_memory import OutOfMemory
from ppodd.errors import BadInput
from ppodd.machine import DeviceError, device_error
from tune.running.claim import check_claim
from tune.running.scheduler import Rule, StageScheduler
from tune.running.search import ArchivedSearch, check_installed
from tune.running.standing import failures, stopped, unfinished
from tune.running.sweep import _record_failure, _tune
from tune.sweep_file import load_sweep
from tune.sweep_file.space import keys

pytestmark = pytest.mark.filterwarnings(
    "ignore::ResourceWarning",
    "ignore::pytest.PytestUnraisableExceptionWarning",
    "ignore:.*:optuna.exceptions.ExperimentalWarning",
)


def sweep_file(folder, tiny, **changes):
    varied = {key for kind in ("grid", "sample") for joint in changes.get(kind, {}) for key in keys(joint)}
    config = {k: list(v) if isinstance(v, tuple) else v for k, v in tiny.items() if k not in varied}
    config.pop("device")
    path = folder / "sweep.yaml"
    path.write_text(yaml.safe_dump({"name": "mine", "config": config, **changes}, sort_keys=False))
    return str(path)


def searched(folder, tiny, num_samples, sample=None, **changes):
    sample = sample or {"lr": {"loguniform": [0.001, 0.1]}}
    changes = {"sample": sample, "search": {"seed": 1}, "seeds": [0, 1], **changes}
    return load_sweep(sweep_file(folder, tiny, num_samples=num_samples, **changes))


def begun(sweep, archive):
    """The searcher that a driver makes, over an archive that lists the sweep."""
    held = archive.sweep(sweep.name)
    if held:
        sweep.adopt(held)
    else:
        archive.write_sweep(sweep.record())
    return ArchivedSearch(sweep, archive, lambda name: {"name": name}, unfinished(sweep, archive))


def finish(archive, sweep, name, accuracy):
    """All stages of a trial, the last one of this accuracy."""
    trial, config = archive.trial(sweep.name, name), sweep.trials[name]
    trial.create(config, resume=True)
    for stage in range(1, config.num_stages + 1):
        write_stage(trial, config, stage, stage_accuracy=stage_accuracy(accuracy))


def told(search):
    """What Optuna knows: the value of each setting that it was told of."""
    study = search._algorithm._ot_study
    return [(trial.params["lr"], trial.value) for trial in study.trials if trial.state.is_finished()]


def told_hyperopt(search):
    """What HyperOpt knows: the value of each setting that it was told of, with its choice."""
    done = [trial for trial in search._algorithm._hpopt_trials.trials if trial["state"] == 2]
    return [({key: values[0] for key, values in t["misc"]["vals"].items()}, -t["result"]["loss"]) for t in done]


def test_a_suggestion_is_listed_before_it_runs_and_judged_by_the_mean_over_seeds(tiny, tmp_path):
    sweep, archive = searched(tmp_path, tiny, num_samples=2), Archive(tmp_path / "archive")
    search = begun(sweep, archive)
    names = [search.suggest(key)["trial"]["name"] for key in ("a", "b")]
    listed = archive.sweep("mine")
    assert [trial.name for trial in listed.trials] == names and listed.wanted == 4
    assert [trial.config["seed"] for trial in listed.trials] == [0, 1]
    lr = listed.trials[0].suggested["lr"]
    assert {trial.config["lr"] for trial in listed.trials} == {lr}
    finish(archive, sweep, names[0], 30)
    search.on_trial_complete("a")
    assert told(search) == []
    finish(archive, sweep, names[1], 50)
    search.on_trial_complete("b")
    assert told(search) == [(lr, 40)]
    assert all(isinstance(search.suggest(key), dict) for key in ("c", "d"))
    assert search.suggest("e") == Searcher.FINISHED and search.done


def test_a_resumed_search_is_told_what_the_archive_knows_and_begins_with_the_unfinished(tiny, tmp_path):
    archive = Archive(tmp_path / "archive")
    first = searched(tmp_path, tiny, num_samples=2)
    search = begun(first, archive)
    names = [search.suggest(key)["trial"]["name"] for key in "abcd"]
    for name, accuracy in zip(names[:3], (30, 50, 20), strict=True):
        finish(archive, first, name, accuracy)
    again = searched(tmp_path, tiny, num_samples=3)
    check_claim(again, archive, resume=True)  # more samples of the same space are no other sweep
    search = begun(again, archive)
    assert [value for _, value in told(search)] == [40]
    assert search.suggest("a")["trial"]["name"] == names[3]
    finish(archive, again, names[3], 40)
    search.on_trial_complete("a")
    assert [value for _, value in told(search)] == [40, 30]
    new = [search.suggest(key)["trial"]["name"] for key in "bc"]
    assert not set(new) & set(names) and search.suggest("d") == Searcher.FINISHED
    assert [trial.name for trial in archive.sweep("mine").trials] == [*names, *new]


def test_a_failed_trial_fails_its_setting_and_one_stopped_early_counts_as_far_as_it_got(tiny, tmp_path):
    archive = Archive(tmp_path / "archive")
    sweep = searched(tmp_path, tiny, num_samples=2)
    search = begun(sweep, archive)
    a, b, c, d = [search.suggest(key)["trial"]["name"] for key in "abcd"]
    finish(archive, sweep, a, 30)
    for key in "ab":  # b has no stages: it failed
        search.on_trial_complete(key, error=key == "b")
    assert [value for _, value in told(search)] == [None]
    finish(archive, sweep, c, 30)
    trial = archive.trial("mine", d)
    trial.create(sweep.trials[d], resume=False)
    write_stage(trial, sweep.trials[d], 1)  # 51 %
    trial.write_stopped(stop("worse"))
    for key in "cd":
        search.on_trial_complete(key)
    assert [value for _, value in told(search)] == [None, 40.5]
    assert unfinished(sweep, archive) == [b]


SQUARES = """
import ray.tune
from tune.sweep_file import Family

def draw(source, values):
    return source.choice(values) ** 2

squares = Family(draw, domain=lambda values: ray.tune.choice([value**2 for value in values]))
"""


def test_a_distribution_of_ones_own_is_searched_by_the_domain_that_it_names(tiny, tmp_path, monkeypatch):
    kind = f"{user_module(tmp_path, monkeypatch, SQUARES)}:squares"
    sweep, archive = searched(tmp_path, tiny, 4, {"lr": {kind: [0.1, 0.2]}}), Archive(tmp_path / "archive")
    search = begun(sweep, archive)
    for trial in range(4):
        search.suggest(str(trial))
    assert {config.lr for config in sweep.trials.values()} == {0.1**2, 0.2**2}


def test_a_used_up_space_ends_the_search_without_repeating_a_trial(tiny, tmp_path):
    archive = Archive(tmp_path / "archive")
    sample = {"lr": {"choice": [0.01, 0.1]}, "poster_width, poster_height": {"choice": [[24, 12], [28, 12]]}}
    sweep = searched(tmp_path, tiny, num_samples=9, seeds=[0], sample=sample)
    search = begun(sweep, archive)
    found = []
    while (job := search.suggest(str(len(found)))) != Searcher.FINISHED:
        found.append(job["trial"]["name"])
        finish(archive, sweep, found[-1], 30)
        search.on_trial_complete(str(len(found) - 1))
    assert len(set(found)) == len(found) == 4
    assert archive.sweep("mine").wanted == 4


def test_what_is_suggested_again_while_it_runs_is_judged_when_that_ends(tiny, tmp_path):
    archive = Archive(tmp_path / "archive")
    sweep = searched(tmp_path, tiny, num_samples=9, seeds=[0], sample={"lr": {"choice": [0.01, 0.1]}})
    search = begun(sweep, archive)
    names = [search.suggest(key)["trial"]["name"] for key in "ab"]
    assert search.suggest("c") == Searcher.FINISHED and told(search) == []
    for key, name, accuracy in zip("ab", names, (30, 50), strict=True):
        finish(archive, sweep, name, accuracy)
        search.on_trial_complete(key)
    values = dict(zip((sweep.trials[name].lr for name in names), (30, 50), strict=True))
    assert len(told(search)) > 2 and all(value == values[lr] for lr, value in told(search))


def test_a_damaged_stage_stops_no_search_or_scheduler_from_going_on(tiny, tmp_path):
    archive, how = Archive(tmp_path / "archive"), {"seeds": [0], "scheduler": {"kind": "asha"}}
    sweep = searched(tmp_path, tiny, num_samples=2, **how)
    search = begun(sweep, archive)
    names = [search.suggest(key)["trial"]["name"] for key in "ab"]
    for name in names:
        finish(archive, sweep, name, 30)
    archive.trial("mine", names[0]).folder.write("stage-02/stage.json", b"{")
    again = searched(tmp_path, tiny, num_samples=3, **how)
    search = begun(again, archive)
    failed, fine = (again.trials[name].lr for name in names)
    assert told(search) == [(failed, None), (fine, 30)]
    assert StageScheduler(again, archive)._seen == {names[0]: 1, names[1]: 2}


def test_another_search_of_the_name_is_refused_and_its_first_difference_named(tiny, tmp_path):
    archive = Archive(tmp_path / "archive")
    begun(searched(tmp_path, tiny, num_samples=2), archive)
    for changes, message in (
        ({"sample": {"lr": {"uniform": [0.001, 0.1]}}}, r"search\.space\.lr is .*loguniform.* there, .*uniform.* here"),
        ({"seeds": [0]}, r"search\.seeds is \[0, 1\] there, \[0\] here"),
        ({"scheduler": {"grace_stages": 1}}, "scheduler is only here"),
    ):
        with pytest.raises(BadInput, match=f"holds another sweep 'mine': {message}"):
            check_claim(searched(tmp_path, tiny, num_samples=2, **changes), archive, resume=True)


def test_hyperopt_is_told_what_came_of_its_suggestions_and_resumed_what_the_archive_knows(tiny, tmp_path):
    pytest.importorskip("hyperopt", reason="HyperOpt is no extra: pip install hyperopt")
    sample = {
        "lr": {"loguniform": [0.001, 0.1]},
        "poster_width, poster_height": {"choice": [[24, 12], [28, 12]]},
        "window": {"randint": [1, 3]},
        "blend": {"choice": ["dynamic", "latest"]},
    }
    when = [{"if": {"blend": "dynamic"}, "sample": {"blend_boost": {"uniform": [1, 2]}}}]
    how = {"sample": sample, "when": when, "search": {"algorithm": "hyperopt", "seed": 1}, "seeds": [0]}
    archive, sweep = Archive(tmp_path / "archive"), searched(tmp_path, tiny, num_samples=4, **how)
    search = begun(sweep, archive)
    names = [search.suggest(key)["trial"]["name"] for key in "abcd"]
    configs = [sweep.trials[name] for name in names]
    for config in configs:
        assert 0.001 <= config.lr <= 0.1 and 1 <= config.window <= 3
        assert (config.poster_width, config.poster_height) in ((24, 12), (28, 12))
    for key, name, accuracy in zip("ab", names, (30, 50), strict=False):
        finish(archive, sweep, name, accuracy)
        search.on_trial_complete(key)
    assert [value for _, value in told_hyperopt(search)] == [30, 50]
    search.on_trial_complete("c", error=True)
    assert len(told_hyperopt(search)) == 2

    again = searched(tmp_path, tiny, num_samples=6, **how)
    search = begun(again, archive)
    found = {values["lr"]: (values["window"], value) for values, value in told_hyperopt(search)}
    assert found == {c.lr: (c.window, value) for c, value in zip(configs, (30, 50), strict=False)}
    assert [search.suggest(key)["trial"]["name"] for key in "ab"] == names[2:]  # the unfinished first
    finish(archive, again, names[3], 70)
    search.on_trial_complete("b")
    assert {values["lr"]: value for values, value in told_hyperopt(search)}[configs[3].lr] == 70
    new = [search.suggest(key)["trial"]["name"] for key in "cd"]
    assert not set(new) & set(names) and search.suggest("e") == Searcher.FINISHED


def test_hyperopt_goes_where_the_objective_is_better(tiny, tmp_path):
    pytest.importorskip("hyperopt", reason="HyperOpt is no extra: pip install hyperopt")
    how = {"search": {"algorithm": "hyperopt"}, "seeds": [0], "sample": {"lr": {"uniform": [0.001, 0.1]}}}
    archive, sweep = Archive(tmp_path / "archive"), searched(tmp_path, tiny, num_samples=40, **how)
    search, rates = begun(sweep, archive), []
    while (job := search.suggest("a")) != Searcher.FINISHED:
        rates.append(sweep.trials[job["trial"]["name"]].lr)
        finish(archive, sweep, job["trial"]["name"], 1000 * rates[-1])
        search.on_trial_complete("a")
    first, last = rates[:20], rates[20:]  # the first 20 are drawn
    assert len(rates) == 40 and sum(last) / 20 > sum(first) / 20 + 0.01


def test_a_searcher_that_is_not_installed_is_said(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(BadInput, match=r"search: optuna is not installed: pip install 'ppodd\[optuna\]'"):
        check_installed("optuna")
    with pytest.raises(BadInput, match=r"search: hyperopt is not installed: pip install hyperopt$"):
        check_installed("hyperopt")


# Want of memory


def test_want_of_memory_names_what_to_lower(tiny, tmp_path):
    config = load_sweep(sweep_file(tmp_path, {**tiny, "arch": "hungry:Hungry"})).examples[0]
    trial = Archive(tmp_path / "archive").trial("mine", "a")
    with pytest.raises(OutOfMemory, match=r"out of memory \(CUDA out of memory.*\): lower real_chunk \(500 now"):
        list(run(config, trial))
    assert trial.stages() == []
    records = list(run(config.model_copy(update={"real_chunk": 20}), trial, resume=True))
    assert [record.real_chunk for record in records] == [20, 20]


def test_a_real_allocators_refusal_is_told_from_other_errors():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**50)
    assert device_error(caught.value) is DeviceError.OUT_OF_MEMORY
    with pytest.raises(RuntimeError) as caught:
        torch.ones(2) @ torch.ones(3)
    assert device_error(caught.value) is None


def test_a_trial_whose_process_was_killed_for_memory_says_so(tiny, tmp_path):
    sweep, archive = load_sweep(sweep_file(tmp_path, tiny)), Archive(tmp_path / "archive")
    (name,) = sweep.trials
    archive.trial("mine", name).create(sweep.trials[name], resume=False)
    _record_failure(sweep, archive, name, OutOfMemoryError("Task was killed due to the node running low on memory."))
    assert "running low on memory.: lower real_chunk (500 now" in failures(sweep, archive)[name]


# On Ray


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    os.environ["PPODD_FATAL"] = str(tmp_path_factory.mktemp("fatal") / "left")
    os.environ["PYTHONPATH"] = os.pathsep.join(
        [str(Path(__file__).parents[3]), str(Path(__file__).parents[2] / "support")]
    )
    connect(None, cpus=2)
    yield
    ray.shutdown()


def test_a_searched_sweep_runs_on_ray_and_goes_on_after_an_interruption(cluster, tiny, tmp_path):
    archive = Archive(tmp_path / "archive")
    sweep = searched(tmp_path, tiny, num_samples=2, seeds=[0])
    archive.write_sweep(sweep.record())
    assert not _tune(sweep, archive)
    before = finished_at(archive, sweep.name)
    assert len(sweep.trials) == 2 and len(before) == 4
    (archive.folder / "mine").remove(f"{list(sweep.trials)[1]}/stage-02/stage.json")  # as if interrupted there
    again = searched(tmp_path, tiny, num_samples=3, seeds=[0])
    again.adopt(archive.sweep("mine"))
    assert not _tune(again, archive)
    after = finished_at(archive, again.name)
    assert len(again.trials) == 3 and len(after) == 6 and unfinished(again, archive) == []
    assert sum(after[key] == time for key, time in before.items()) == 3


@pytest.mark.parametrize("scheduler", [{"kind": "asha"}, {"kind": "median", "min_trials": 1}])
def test_a_scheduler_stops_trials_on_ray_for_good(cluster, tiny, tmp_path, scheduler):
    values = {**tiny, "epochs": 4, "steps_per_epoch": 1}
    # the latter half is far worse, whichever trials are quicker
    grid = {"inner_lr": [0.01, 10], "num_stages": [2, 4]}
    changes = {"grid": grid, "seeds": [0, 1], "objective": "meta_loss", "scheduler": scheduler}
    sweep, archive = load_sweep(sweep_file(tmp_path, values, **changes)), Archive(tmp_path / "archive")
    archive.write_sweep(sweep.record())
    assert not _tune(sweep, archive)
    done = stopped(sweep, archive)
    assert 0 < len(done) < 8 and unfinished(sweep, archive) == [] and failures(sweep, archive) == {}
    for name in done:  # after 2 of 4 epochs, never sooner; by ASHA then or not at all
        stages, num_stages = len(archive.trial("mine", name).stages()), sweep.trials[name].num_stages
        assert stages == num_stages // 2 or (scheduler["kind"] == "median" and stages == num_stages - 1)
    # the rule itself, over what is archived, stops the same
    rule = Rule(sweep.file.scheduler, grace=2, mode="min")
    records = sorted(finished_at(archive, sweep.name), key=finished_at(archive, sweep.name).get)
    found = set()
    for name, stage in records:
        loss = archive.trial("mine", name).stage(stage).meta_loss.last
        if rule.stops(name, stage * sweep.trials[name].stage_epochs, loss) and stage < sweep.trials[name].num_stages:
            found.add(name)
    assert found == set(done)
    before = finished_at(archive, sweep.name)
    assert not _tune(load_sweep(sweep_file(tmp_path, values, **changes)), archive)
    assert finished_at(archive, sweep.name) == before


def test_a_trial_out_of_memory_fails_or_by_choice_goes_on_with_half_the_chunk(cluster, tiny, tmp_path):
    values, archive = {**tiny, "arch": "hungry:Hungry"}, Archive(tmp_path / "archive")
    sweep = load_sweep(sweep_file(tmp_path, values))
    archive.write_sweep(sweep.record())
    (name,) = sweep.trials
    assert not _tune(sweep, archive)
    assert "lower real_chunk (500 now; the results stay the same to rounding)" in failures(sweep, archive)[name]
    sweep = load_sweep(sweep_file(tmp_path, values, resources={"on_out_of_memory": "halve_chunk"}))
    check_claim(sweep, archive, resume=True)
    assert not _tune(sweep, archive)
    trial = archive.trial("mine", name)
    assert [trial.stage(stage).real_chunk for stage in trial.stages()] == [16, 16]  # of the 64 real images: 32, 16
    assert unfinished(sweep, archive) == [] and trial.config().real_chunk == 500


@pytest.mark.slow
def test_a_trial_that_loses_its_process_goes_on_but_not_for_ever(cluster, tiny, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr("tune.running.sweep._LOSSES", 1)
    sweep = load_sweep(sweep_file(tmp_path, {**tiny, "arch": "fatal:Fatal"}, grid={"lr": [0.01, 0.02]}))
    archive, losses = Archive(tmp_path / "archive"), Path(os.environ["PPODD_FATAL"])
    archive.write_sweep(sweep.record())
    losses.write_text("1")
    said = []
    assert not _tune(sweep, archive, say=said.append)
    assert unfinished(sweep, archive) == [] and failures(sweep, archive) == {} and losses.read_text() == "0"
    assert (
        len(said) == 1 and "goes on from its last checkpoint" in said[0] and "Traceback" not in capfd.readouterr().err
    )
    name, _ = sweep.trials
    for stage in (1, 2):
        (archive.folder / "mine").remove(f"{name}/stage-{stage:02d}/stage.json")
    (archive.folder / "mine").remove(f"{name}/resume/state.safetensors")
    losses.write_text("9")
    assert not _tune(sweep, archive)
    assert losses.read_text() == "7" and "died" in failures(sweep, archive)[name]
    gone = archive.trial("mine", name).failure()  # where to look: as its progress told while it ran
    assert gone.node and gone.pid != os.getpid() and Path(gone.log_file).match("logs/worker-*.err")


def test_a_sweep_that_waits_for_a_place_says_so_once(cluster, tiny, tmp_path, monkeypatch):
    monkeypatch.setattr("tune.running.sweep._PLACE_S", 0.2)
    sweep, archive = load_sweep(sweep_file(tmp_path, {**tiny, "num_stages": 1})), Archive(tmp_path / "archive")
    archive.write_sweep(sweep.record())

    @ray.remote(num_cpus=2)
    class Busy:
        def there(self):
            return True

    busy, said = Busy.remote(), []
    assert ray.get(busy.there.remote())

    def say(line):
        said.append(line)
        ray.kill(busy)

    assert not _tune(sweep, archive, say=say)
    assert unfinished(sweep, archive) == [] and len(said) == 1
    assert "each asks for 1 CPU and 0 GPU, the cluster has 1 nodes, of 2 CPU and 0 GPU" in said[0]
