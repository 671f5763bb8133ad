"""What people of other labs ran into, a line each: what they typed, where, and the exit code and line they get.

Grouped as the files beside this one, which try each kind in depth. Nothing may be written where something is refused.
"""

import os
from pathlib import Path

import pytest
import yaml

from ppodd.cli.main import main

SWEEP = {"name": "lab", "preset": "digits-small", "config": {"num_stages": 1}}


def file(**changes):
    return {"sweep.yaml": yaml.safe_dump({**SWEEP, **changes}, sort_keys=False)}


LAUGHS = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 30))
PLAN = ["sweep", "sweep.yaml", "--dry-run", "--no-estimate"]
RUN = ["sweep", "sweep.yaml"]
# what it is about, the files there, the environment, the command, its exit code, what it says
CASES = [
    ("Ray's start", file(), {}, [*RUN, "--ray-address", "head"], 2, "it names no port (Ray's own is 6379)"),
    ("Ray's start", file(), {}, [*RUN, "--ray-address", "::1:6379"], 2, "IPv6 is written in brackets"),
    ("Ray's start", file(), {}, [*RUN, "--ray-address", "http://head:8265"], 2, "of a dashboard, for `ppodd submit"),
    ("Ray's start", file(), {"RAY_ADDRESS": "head:x"}, [*RUN, "--ray-address", "auto"], 2, "RAY_ADDRESS='head:x' is"),
    ("URLs", file(), {}, [*RUN, "--archive", "s3:/x"], 2, "write s3://x, or ./s3:/x"),
    ("URLs", file(), {}, [*RUN, "--archive", "s3://"], 2, "names no bucket"),
    ("URLs", file(), {}, [*RUN, "--archive", "a?b"], 2, "choose an archive's folder without ? and %"),
    ("URLs", file(), {}, [*RUN, "--archive", "http://lab/x"], 2, "http has no folders to write to"),
    ("URLs", file(), {}, ["distill", "--archive", "memory://x"], 2, "memory has no folders to write to"),
    (
        "URLs",
        file(),
        {},
        ["results", "table", "-o", "s3://lab/x.csv"],
        2,
        "is a URL: files are written on this machine",
    ),
    ("URLs", file(), {}, [*RUN, "--archive", "x" * 300], 2, "is longer than disks take"),
    ("URLs", file(), {}, ["results", "table", "--archive", "x/" * 2000], 2, "is longer than disks take"),
    ("URLs", file(), {}, [*RUN, "--archive", "sweep.yaml"], 2, "sweep.yaml is a file; name another --archive"),
    ("names", file(name=".."), {}, RUN, 2, "name='..': a name is a folder of the archive"),
    ("names", file(name=".hidden"), {}, RUN, 2, "name='.hidden': a name is a folder"),
    ("names", file(name="mlflow.db"), {}, RUN, 2, "the archive keeps files of its own there"),
    ("names", file(name="x" * 300), {}, RUN, 2, "at most 240 bytes, not 300"),
    (
        "names",
        {},
        {},
        ["distill", "--preset", "digits-small", "--name", "../x"],
        2,
        "a name is a folder of the archive",
    ),
    ("seeds", file(), {}, [*RUN, "--set", "seed=7"], 2, "write seeds: [7]"),
    ("seeds", file(config={"seed": 5}), {}, RUN, 2, "write seeds: [5]"),
    ("seeds", file(num_samples=10**9, sample={"lr": {"uniform": [0.1, 1]}}), {}, RUN, 2, "1,000,000,000 trials, of at"),
    ("seeds", file(grid={"width": [*range(1, 400)], "lr": [*range(1, 400)]}), {}, RUN, 2, "159,201 trials, of at most"),
    ("MLflow", {}, {}, ["results", "table", "--tracking-uri", "sqlite:///typo.db"], 2, "there is no MLflow store"),
    (
        "MLflow",
        file(),
        {"MLFLOW_TRACKING_URI": "sqlite:////dev/null/y.db"},
        RUN,
        2,
        "cannot make the MLflow store sqlite:////dev/null/y.db: /dev/null is a file; name another",
    ),
    ("text", {"sweep.yaml": "&a\nname: x\nconfig: *a\n"}, {}, RUN, 2, "an alias (*…) stands within what it is"),
    (
        "text",
        {"sweep.yaml": f"name: x\nconfig: {'[' * 500}{']' * 500}\n"},
        {},
        RUN,
        2,
        "no sweep file is nested that deep",
    ),
    ("text", {"sweep.yaml": LAUGHS}, {}, RUN, 2, "more than 100000 values, written out"),
    ("text", {"sweep.yaml": 'name: x\ndescription: "\\ud800"\n'}, {}, RUN, 2, "line 2: '\\ud800' is no UTF-8 text"),
    ("text", {}, {}, ["sweep", "x" * 300], 2, "unknown sweep 'xxx"),
    ("text", {"sweep.yaml": "name: 2024-05-01\npreset: digits-small\n"}, {}, PLAN, 0, ""),
    (
        "limits",
        {"sweep.yaml": "name: lab\nlimits: {trial_hours: 6:00}\n"},
        {},
        RUN,
        2,
        "trial_hours='6:00': input should be",
    ),
    ("limits", file(limits={"sweep_hours": float("inf")}), {}, RUN, 2, "input should be a finite number"),
    ("limits", file(limits={"trial_hours": 0}), {}, RUN, 2, "greater than 0"),
    ("limits", file(limits={"hours": 1}), {}, RUN, 2, "unknown limits key 'hours'"),
    ("limits", file(), {}, [*RUN, "--set", "limits.sweep_hours=-1"], 2, "greater than 0"),
    ("resources", file(config={"device": "cuda"}), {}, RUN, 2, "device cuda: trials reserve no GPU"),
    ("resources", file(config={"device": "cuda:1"}, resources={"gpus": 1}), {}, RUN, 2, "a trial sees the one GPU"),
    ("resources", file(config={"device": "tpu"}), {}, RUN, 2, "device tpu: accepted are auto, cpu and cuda"),
    ("resources", file(resources={"cpus": float("inf")}), {}, RUN, 2, "resources.cpus=inf: input should be a finite"),
    ("resources", file(resources={"custom": {"": 1}}), {}, RUN, 2, "resources.custom.='': string should match"),
    ("resources", file(resources={"accelerator_type": "A100"}), {}, RUN, 2, "write gpus too"),
    ("resources", file(resources={"gpus": 2}), {}, RUN, 2, "computes on one GPU"),
    ("resources", file(resources={"custom": {"CPU": 1}}), {}, RUN, 2, "custom CPU is Ray's own"),
    ("nothing wrong", file(limits={"trial_hours": 2, "sweep_hours": 9}), {}, PLAN, 0, ""),
    ("nothing wrong", file(resources={"memory_gib": 4, "custom": {"licence": 1}}), {}, PLAN, 0, ""),
]


@pytest.mark.parametrize(("about", "files", "environment", "arguments", "code", "said"), CASES)
def test_it_ends_with_this_code_and_one_line(
    about, files, environment, arguments, code, said, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    for name, text in files.items():
        Path(name).write_text(text, encoding="utf-8")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert main(arguments) == code
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == (code != 0), error
    assert sorted(os.listdir()) == sorted(files)
