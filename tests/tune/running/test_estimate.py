"""What is said of a sweep before it runs, and while it does."""

import pytest
import torch
import yaml
from archives import stop, write_evaluations, write_stage

import ppodd.evaluation
from ppodd.archive import Archive
from ppodd.cli.main import main
from ppodd.cli.sweep import _hours
from ppodd.config import EvaluationConfig
from ppodd.distillation.archived_run import run
from tune.running.estimate import Timer, _typical, budgets
from tune.running.progress import ProgressReader
from tune.sweep_file import load_sweep


@pytest.fixture
def path(tiny, tmp_path):
    config = {k: list(v) if isinstance(v, tuple) else v for k, v in tiny.items() if k != "num_stages"}
    values = {"name": "mine", "config": config, "grid": {"num_stages": [1, 2], "blend": ["dynamic", "latest"]}}
    values |= {"seeds": [0, 1], "evaluation": {"nets": 3, "arch": ["convnet", "convnetw"]}}
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    return str(tmp_path / "sweep.yaml")


def test_the_budgets_of_a_dry_run_are_those_of_the_archive(path, tiny, tmp_path):
    sweep = load_sweep(path, ["steps_per_epoch=0", "batch_size=500"])
    found = budgets(sweep, Timer(sweep).images)
    assert [budget.seeds for budget in found] == [[0, 1]] * 4
    for budget in found:
        name = f"{budget.setting},seed=0"
        *_, last = run(sweep.trials[name], Archive(tmp_path / "archive").trial("mine", name))
        for key in ("poster_ipc", "cumulative_ipc", "meta_steps"):
            assert getattr(budget, key) == pytest.approx(getattr(last.budgets, key)), (name, key)
        assert budget.evaluation_steps == budget.stages * 2 * 3 * 4  # stages × networks' kinds × nets × steps


def test_the_estimate_is_made_of_the_pieces_it_timed(path):
    sweep = load_sweep(path)
    timer = Timer(sweep)
    times = {"meta": 2.0, "first": 0.5, "more": 1.5}

    def once(place, key, measure):
        return times["more" if key.endswith(" 11") else "first" if key.endswith(" 1") else "meta"]

    timer._once = once
    hours = timer.hours()
    # a training step of all networks 0.1 s, a judging 0.4 s; 8 meta-steps a trial, 3 steps for each stage's accuracy
    stages, trials = 2 * (1 + 2) * 2, 8
    assert hours.trials_s == pytest.approx(trials * 8 * 2 + stages * (3 * 0.1 + 0.4))
    assert hours.evaluations_s == pytest.approx(stages * 2 * (4 * 0.1 + 2 * 0.4))


def test_evaluations_are_timed_where_evaluators_do_them_and_the_rest_where_trials_are(path, monkeypatch, capsys):
    load, loaded = ppodd.evaluation.data_of, set()
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("tune.running.estimate.cores", lambda: 3)

    def on_cpu(config, device):
        loaded.add(device.type)
        return load(config, torch.device("cpu"))

    monkeypatch.setattr("ppodd.evaluation.data_of", on_cpu)
    where = ["resources={cpus: 3, gpus: 0.5}", "evaluators={cpus: 2}", "grid.num_stages=[1]", "seeds=[0]"]
    timer = Timer(load_sweep(path, where))
    assert (timer.trials, timer.evaluators, timer.no_gpu) == (("cuda", 3), ("cpu", 2), []) and loaded == {"cuda"}
    found = []

    def once(place, key, measure):
        found.append((place.device, key.split()[1:] != []))
        measure()
        return 3600.0 if place.device == "cuda" else 60.0

    timer._once = once
    hours = timer.hours()
    assert loaded == {"cuda", "cpu"} and set(found) == {("cuda", False), ("cuda", True), ("cpu", True)}
    # two trials of 8 meta-steps and a judging; two kinds of networks evaluate each, judged at two budgets
    assert (hours.trials_s, hours.evaluations_s) == (2 * 9 * 3600, 2 * 2 * 2 * 60)
    text = _hours(timer._sweep, timer)
    assert "trials 9 GPU hours, evaluations 0.27 core hours" in text and "on cuda, evaluations on cpu)" in text


def test_a_piece_is_timed_with_the_threads_of_its_place(path):
    timer, threads = Timer(load_sweep(path, ["resources.cpus=2", "evaluators.cpus=1.5"])), torch.get_num_threads()
    try:
        found = {
            timer._once(place, "a", lambda: float(torch.get_num_threads()))
            for place in (timer.trials, timer.evaluators, timer.trials)
        }
    finally:
        torch.set_num_threads(threads)
    assert found == {2.0, 1.0}


@pytest.mark.parametrize(
    ("where", "who"),
    [
        (["resources.gpus=1"], "the trials want a GPU"),
        (["evaluators.gpus=0.5"], "the evaluators want a GPU"),
        (["resources.gpus=1", "evaluators.gpus=0.5"], "the trials and evaluators want a GPU"),
    ],
)
def test_without_the_gpu_that_is_wanted_there_is_no_estimate(path, where, who, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    sweep = load_sweep(path, where)
    assert _hours(sweep, Timer(sweep)) == f"no estimate: {who}, and there is none here to time them on"


@pytest.mark.parametrize(("cctype", "steps"), [(0, (2, 2)), (1, (0, 2)), (2, (1, 2)), (3, (0, 3))])
def test_a_timed_meta_step_is_of_mean_length(path, cctype, steps):
    config = _typical(load_sweep(path, [f"cctype={cctype}"]).examples[0])  # window 2, totwindow 4
    assert (config.cctype, config.totwindow - config.window, config.window) == (0, *steps)


def test_a_dry_run_prints_budgets_and_hours_and_touches_nothing(path, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["sweep", path, "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "8 trials, 12 stages" in out and "num_stages=2,blend=latest   0,1 " in out
    assert "in all: 64 meta-steps, 288 training steps of evaluations" in out and "core hours" in out
    assert not (tmp_path / "ppodd-archive").exists()


def test_the_table_of_a_dry_run_fits_a_narrow_terminal(path, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("ppodd.cli.console.width", lambda: 50)
    assert main(["sweep", path, "--dry-run", "--no-estimate"]) == 0
    narrow = capsys.readouterr().out.splitlines()
    assert max(map(len, narrow)) <= 50
    assert "num_stages=2,blend=dynamic       2           0.900" in narrow  # what is the same in every row is said once


def test_a_dry_run_without_the_data_says_so_and_what_can_be_said(path, tmp_path, capsys):
    arguments = ["--set", "dataset=./gone.parquet", "--set", "steps_per_epoch=0", f"--archive={tmp_path / 'a'}"]
    assert main(["sweep", path, "--dry-run", *arguments]) == 0
    out = capsys.readouterr().out
    assert "no estimate: " in out and "gone.parquet does not exist" in out
    assert "in all: 288 training steps of evaluations" in out


def test_a_dry_run_names_what_the_archive_already_holds(path, tmp_path, capsys):
    archive, sweep = Archive(tmp_path / "archive"), load_sweep(path)
    archive.write_sweep(sweep.record())
    arguments = ["sweep", path, "--dry-run", "--no-estimate", f"--archive={archive.url}"]
    assert main(arguments) == 2 and "already holds sweep 'mine'" in capsys.readouterr().err
    assert main([*arguments, "--resume"]) == 0
    assert main([*arguments, "--set", "lr=0.3"]) == 2
    assert "trial num_stages=1,blend=dynamic,seed=0: lr is 0.05 there, 0.3 here" in capsys.readouterr().err


def test_progress_counts_the_sweeps_own_evaluations_and_a_stopped_trial_as_done(path, tmp_path):
    archive, sweep = Archive(tmp_path / "archive"), load_sweep(path)
    read = ProgressReader(sweep, archive)
    assert (read().trials, read().stages, read().stages_done, read().evaluations) == (8, 12, 0, 24)
    one, two = (name for name in sweep.trials if name.endswith("blend=dynamic,seed=0"))
    for name in (one, two):
        trial, config = archive.trial("mine", name), sweep.trials[name]
        trial.create(config, resume=False)
        write_stage(trial, config, 1)
        write_evaluations(trial, config, 1, sweep.evaluations[0])
        write_evaluations(trial, config, 1, EvaluationConfig(nets=7))  # of someone else
    now = read()
    assert (now.trials_done, now.stages_done, now.evaluations_done, now.stopped) == (1, 2, 4, 0)
    archive.trial("mine", two).write_stopped(stop("worse"))
    now = read()
    assert (now.trials_done, now.stages, now.evaluations, now.stopped) == (2, 11, 22, 1)


def test_trials_of_one_stage_that_differ_in_their_blend_alone_are_said_to_repeat_each_other(tmp_path, capsys):
    path = tmp_path / "sweep.yaml"
    path.write_text(
        "name: s\npreset: digits-small\ngrid: {num_stages: [1, 2], blend: [dynamic, uniform]}\nseeds: [0, 1]\n"
    )
    arguments = ["sweep", str(path), "--dry-run", "--no-estimate", f"--archive={tmp_path}/a"]
    assert main(arguments) == 0
    assert "2 trials will repeat another: in one stage, blend has no part\n" in capsys.readouterr().out
    assert main([*arguments, "--set=grid={num_stages: [1, 2]}"]) == 0
    assert "repeat" not in capsys.readouterr().out
