"""Templates of clusters: valid by their published schemas, and the Slurm script run with Slurm's commands stubbed."""

import argparse
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path

import jsonschema
import pytest
import yaml
from ray_clusters import ROOT, end_session
from slurm import fake_slurm, sbatch
from sweeps import wait_for

from cluster.templates.filling import KINDS
from ppodd.archive import Archive
from ppodd.cli.main import main

KUBERAY = json.loads((Path(__file__).parent / "kuberay.schema.json").read_text())
S3 = ["archive=s3://lab/archive", "sweep=quickstart", "image=lab/ppodd:1"]
NFS = ["archive=/shared/archive", "claim=nfs", "sweep=quickstart", "image=lab/ppodd:1"]
FULL = [
    "secret=keys",
    "claim=nfs",
    "namespace=lab",
    "nodes=7",
    "gpus=4",
    "tracking_uri=http://mlflow:5000",
    "memory=1Ti",
]


def rendered(capsys, kind, *settings):
    assert main(["cluster", "template", kind, *(f"--set={setting}" for setting in settings)]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("settings", [["image=a"], ["image=a", "gpus=0"], ["image=a", *FULL]], ids=" ".join)
def test_the_kuberay_cluster_is_valid_by_kuberays_schema(capsys, settings):
    cluster = yaml.safe_load(rendered(capsys, "kuberay-cluster", *settings))
    jsonschema.validate(cluster, KUBERAY)
    assert cluster["spec"]["authOptions"] == {"mode": "token"}
    workers = pods(cluster["spec"])[1]
    gpus = {"gpus=0": None, "gpus=4": "4"}
    wanted = next((gpus[setting] for setting in settings if setting in gpus), "1")
    assert workers["containers"][0]["resources"]["limits"].get("nvidia.com/gpu") == wanted


def pods(spec):
    return [group["template"]["spec"] for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"])]


@pytest.mark.parametrize("settings", [S3, NFS, [*NFS, *FULL]], ids=" ".join)
def test_the_kuberay_job_carries_its_sweep_and_outlives_the_evaluators_backlog(capsys, settings):
    config, job = yaml.safe_load_all(rendered(capsys, "kuberay-job", *settings))
    jsonschema.validate(job, KUBERAY)
    assert yaml.safe_load(config["data"]["sweep.yaml"])["name"] == "quickstart"
    # the cluster ends with the job, so the job ends with the last evaluation
    assert job["spec"]["shutdownAfterJobFinishes"] and job["spec"]["entrypoint"].endswith(" --resume --wait")
    head, *workers = pods(job["spec"]["rayClusterSpec"])
    mounted = {mount["name"]: mount["mountPath"] for mount in head["containers"][0]["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in head["volumes"]}
    assert volumes["sweep"]["configMap"]["name"] == config["metadata"]["name"]
    assert f"{mounted['sweep']}/sweep.yaml" in job["spec"]["entrypoint"]
    for pod in (head, *workers) if settings != S3 else ():
        assert {"name": "shared", "mountPath": "/shared"} in pod["containers"][0]["volumeMounts"]


def test_the_entrypoint_of_the_kuberay_job_is_a_command_of_ours(capsys):
    import shlex

    from ppodd.cli import sweep
    from ppodd.cli.main import Parser

    _, job = yaml.safe_load_all(rendered(capsys, "kuberay-job", *S3))
    words = shlex.split(job["spec"]["entrypoint"])
    parser = Parser()
    sweep.add_arguments(parser)
    assert words[:4] == ["python", "-m", "ppodd", "sweep"] and parser.parse(words[4:]).wait


@pytest.mark.parametrize("settings", [[], ["gpus=0", "nodes=5", "instance_profile=arn:aws:iam::1:x"]], ids=" ".join)
def test_the_aws_cluster_is_valid_by_rays_own_check(capsys, settings):
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = yaml.safe_load(rendered(capsys, "ray-up-aws", "image=lab/ppodd:1", *settings))
    schema = Path(sys.modules["ray"].__file__).parent / "autoscaler/ray-schema.json"
    jsonschema.validate(config, json.loads(schema.read_text()))
    validate_config(prepare_config(config))
    for name in ("head", "worker"):
        commands = config[f"{name}_start_ray_commands"]
        assert any(command.startswith("export RAY_AUTH_MODE=token") and "ray start" in command for command in commands)
        for command in commands:
            subprocess.run(["bash", "-n", "-c", command], check=True)


NODES = ["accelerator_type=A100", "resources=licence=2,scratch=5"]
EACH = {"accelerator_type:A100": 1, "licence": 2, "scratch": 5}


@pytest.mark.parametrize(("kind", "settings"), [("kuberay-cluster", ["image=a"]), ("kuberay-job", S3)])
def test_pods_have_what_a_sweep_reserves_beside_cores_and_are_put_on_nodes_of_that_model(capsys, kind, settings):
    label = "nvidia.com/gpu.product=NVIDIA-A100-SXM4-80GB"
    *_, found = yaml.safe_load_all(rendered(capsys, kind, *settings, *NODES, f"node_selector={label}"))
    jsonschema.validate(found, KUBERAY)
    spec = found["spec"].get("rayClusterSpec", found["spec"])
    (group,) = spec["workerGroupSpecs"]
    # KubeRay's own form: JSON in a shell's double quotes, which its autoscaler takes off again
    given = group["rayStartParams"]["resources"]
    assert json.loads(given[1:-1].replace("\\", "")) == EACH == json.loads(json.loads(given))
    assert group["template"]["spec"]["nodeSelector"] == dict([label.split("=")])


def test_machines_of_aws_have_what_a_sweep_reserves_beside_cores(capsys):
    config = yaml.safe_load(rendered(capsys, "ray-up-aws", "image=a", "memory=64Gi", *NODES))
    schema = Path(sys.modules["ray"].__file__).parent / "autoscaler/ray-schema.json"
    jsonschema.validate(config, json.loads(schema.read_text()))
    assert config["available_node_types"]["node"]["resources"] == {"CPU": 8, "GPU": 1, "memory": 64 * 2**30, **EACH}


def test_slurms_nodes_have_what_a_sweep_reserves_beside_cores(capsys):
    settings = ("archive=/nfs/a", "sweep=quickstart", "gpus=4", "gpu_type=a100", "memory=600Gi", *NODES)
    script = rendered(capsys, "slurm", *settings)
    assert f" --memory={600 * 2**30} " in script
    assert "#SBATCH --gpus-per-node=a100:4\n" in script
    start = next(line for line in script.splitlines() if line.startswith("start=("))
    shown = subprocess.run(["bash", "-c", f'{start}\nprintf %s "${{start[-1]}}"'], capture_output=True, text=True)
    assert json.loads(shown.stdout.removeprefix("--resources=")) == EACH


@pytest.mark.parametrize("kind", ["slurm", "kuberay-job"])
@pytest.mark.parametrize(
    ("resources", "nodes", "lacking"),
    [
        ({"custom": {"licence": 3}}, ["resources=licence=2"], "3 licence"),
        ({"gpus": 1, "accelerator_type": "H100"}, ["accelerator_type=A100"], "GPU model H100"),
        ({"memory_gib": 64}, ["memory=32Gi"], "64 GiB of memory"),
        ({"cpus": 16}, [], "16 CPU"),
    ],
)
def test_nodes_that_could_never_take_a_trial_of_their_sweep_are_refused(
    capsys, tmp_path, kind, resources, nodes, lacking
):
    sweep = tmp_path / "wants.yaml"
    sweep.write_text(yaml.safe_dump({"name": "wants", "preset": "digits-small", "resources": resources}))
    settings = ["archive=s3://lab/a", f"sweep={sweep}", *nodes, *(["image=a"] if kind == "kuberay-job" else [])]
    assert main(["cluster", "template", kind, *(f"--set={setting}" for setting in settings)]) == 2
    said = capsys.readouterr()
    assert lacking in said.err and "or have nodes of more, with --set" in said.err and not said.out


def test_the_kuberay_schema_refuses_what_the_api_server_would(capsys):
    cluster = yaml.safe_load(rendered(capsys, "kuberay-cluster", "image=a"))
    cluster["spec"]["headGroupSpec"]["serviceTyp"] = "ClusterIP"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(cluster, KUBERAY)


@pytest.mark.parametrize("settings", [[], ["gpus=0", "partition=gpu", "setup=. /venv/bin/activate", "nodes=1"]])
def test_the_slurm_script_is_a_script(capsys, settings, tmp_path):
    script = rendered(capsys, "slurm", "archive=/nfs/it's here", "sweep=quickstart", *settings)
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)
    assert "--archive '/nfs/it'\"'\"'s here'" in script and ("#SBATCH --gpus-per-node" in script) == (settings == [])


def _sbatch_options():
    """Slurm's own options of `sbatch`, as far as a script of ours may have them, with the values that they take."""
    parser = argparse.ArgumentParser(exit_on_error=False, allow_abbrev=False)
    values = {
        r"[\w.-]+": ("job-name", "partition", "account", "qos"),
        r"\d+": ("nodes", "ntasks-per-node", "cpus-per-task"),
        r"([a-z][\w-]*:)?\d+": ("gpus-per-node",),
        r"\d+[KMGT]": ("mem",),
        r"(\d+-)?\d+(:\d\d){0,2}": ("time",),
        r"(B:)?(TERM|USR1)@\d+": ("signal",),
        r"append|truncate": ("open-mode",),
        r"\d+-\d+(%\d+)?": ("array",),
        r"[\w|&*()\[\]-]+": ("constraint",),
    }
    for pattern, names in values.items():
        for name in names:
            parser.add_argument(f"--{name}", type=partial(_matching, pattern))
    for flag in ("requeue", "exclusive"):
        parser.add_argument(f"--{flag}", action="store_true")
    return parser


def _matching(pattern, value):
    if not re.fullmatch(pattern, value):
        raise ValueError(value)
    return value


EVERY = ["partition=gpu", "account=lab", "qos=long", "constraint=a100", "gpu_type=a100", "time=1-12:00:00", "gpus=4"]


@pytest.mark.parametrize("settings", [[], EVERY, [*EVERY, "sweep=quickstart,{other}", "memory=1Ti"]], ids=len)
def test_slurms_options_are_its_own_with_values_that_it_takes(capsys, settings, tmp_path):
    (tmp_path / "other.yaml").write_text("name: another\npreset: digits-small\n")
    settings = [setting.format(other=tmp_path / "other.yaml") for setting in settings]
    script = rendered(capsys, "slurm", "archive=/nfs/a", "sweep=quickstart", *settings)
    header = script.partition("set -euo")[0].splitlines()
    given = _sbatch_options().parse_args([line.split()[1] for line in header if line.startswith("#SBATCH")])
    assert given.requeue and given.signal == "B:TERM@120" and given.nodes and given.mem and given.time
    assert (given.account, given.qos) == (("lab", "long") if settings else (None, None))
    assert given.array == ("0-1" if len(settings) > len(EVERY) else None)


def test_slurm_starts_ray_on_ports_that_nothing_listens_at_and_others_when_it_is_queued_again(capsys):
    script = rendered(capsys, "slurm", "archive=/nfs/a", "sweep=quickstart")
    chosen = script[script.index("listens()") :].partition('on "$head" "${start')[0] + "\necho $port"

    def port(restarts):
        environment = {"SLURM_JOB_ID": "123456", "SLURM_RESTART_COUNT": restarts, "ip": "127.0.0.1"}
        return int(subprocess.run(["bash", "-euc", chosen], env=environment, capture_output=True, text=True).stdout)

    first = port("0")
    assert first != port("1") and 20_000 <= first < 32_768
    for beside in (0, 1):  # Ray's own port, or that of its clients
        with socket.create_server(("127.0.0.1", first + beside)):
            assert port("0") not in (first, first + 1)


def test_slurm_queues_it_again_at_the_time_limit_and_charges_whom_it_is_told(capsys):
    settings = ["account=lab", "qos=long", "constraint=a100|h100"]
    script = rendered(capsys, "slurm", "archive=/nfs/archive", "sweep=quickstart", *settings)
    options = {line.removeprefix("#SBATCH --") for line in script.splitlines() if line.startswith("#SBATCH --")}
    assert {"requeue", "signal=B:TERM@120", "account=lab", "qos=long", "constraint=a100|h100"} <= options
    assert not any(option.startswith(("array", "partition")) for option in options)


def test_several_sweeps_are_an_array_of_slurm_jobs(capsys, tmp_path):
    other = tmp_path / "it's another.yaml"
    other.write_text("name: another\npreset: digits-small\n")
    script = rendered(capsys, "slurm", "archive=/nfs/archive", f"sweep=quickstart,{other}")
    assert "#SBATCH --array=0-1\n" in script
    chosen = script[script.index("sweeps=(") :].partition("\n")[0] + '\nprintf %s "${sweeps[SLURM_ARRAY_TASK_ID]}"'
    for number, sweep in enumerate(["quickstart", str(other)]):
        ran = subprocess.run(
            ["bash", "-c", chosen], env={"SLURM_ARRAY_TASK_ID": str(number)}, capture_output=True, text=True
        )
        assert ran.stdout == sweep


@pytest.mark.slow  # 90 s; four minutes on a busy machine
def test_the_slurm_script_is_warned_at_its_time_limit_requeued_and_completes_the_sweep(capsys, tiny, tmp_path):
    settings = {"epochs": 150, "checkpoint_every": 10**6}
    config = {k: list(v) if isinstance(v, tuple) else v for k, v in {**tiny, **settings}.items() if k != "device"}
    del config["num_stages"]
    sweep = {"name": "tiny", "preset": "digits-small", "config": config, "grid": {"num_stages": [1, 2]}}
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump({**sweep, "evaluators": {"cpus": 0}}, sort_keys=False))
    values = [f"sweep={tmp_path}/sweep.yaml", f"archive={tmp_path}/archive", "cpus=1", "gpus=0", "nodes=2"]
    (tmp_path / "job.sh").write_text(rendered(capsys, "slurm", *values))
    number = 40_000 + os.getpid() % 10_000
    archive = Archive(tmp_path / "archive")
    job = sbatch(tmp_path / "job.sh", fake_slurm(tmp_path, ROOT, number))

    def said():
        return (tmp_path / "job.log").read_text()

    try:
        wait_for(
            lambda: job.poll() is not None or any(archive.trial("tiny", t).progress() for t in trials(archive)), 300
        )
        assert job.poll() is None, said()
        (tmp_path / "limit").touch()
        assert job.wait(900) == 0, said()
        assert (tmp_path / "codes").read_text().split() == ["143", "0"], said()
        assert said().count("ppodd: interrupted by SIGTERM; the same command with --resume goes on") == 1
        assert "*** SIG" not in said() and "Stack trace" not in said()
        stages = [archive.trial("tiny", t).evaluations(s) for t in trials(archive) for s in stages_of(archive, t)]
        assert [len(found) for found in stages] == [1, 1, 1]
        assert not list(tmp_path.glob(".ppodd-*"))  # the token is gone
    finally:
        end_session(job)
        shutil.rmtree(f"/tmp/ray-{number}", ignore_errors=True)


def trials(archive):
    return archive.trials("tiny")


def stages_of(archive, trial):
    return archive.trial("tiny", trial).stages()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["kuberay"], "unknown template 'kuberay'; did you mean 'kuberay-job'?"),
        (["kuberay-cluster"], "template kuberay-cluster needs --set image=… (container image"),
        (["slurm", "--set", "image=a"], "unknown setting of slurm 'image'"),
        (["ray-up-aws", "--set", "image=a", "--set", "nodes=0"], "--set nodes='0': Input should be greater"),
        (["ray-up-aws", "--set", "image=a b"], "--set image='a b': String should match"),
        (["ray-up-aws", "--set", "image=a", "--set", "resources=licence"], "--set resources='licence': String should"),
        (["kuberay-cluster", "--set", "image=a", "--set", "node_selector=a100"], "--set node_selector='a100': String"),
        (["ray-up-aws", "--set", "image"], "--set 'image': write key=value"),
        (["ray-up-aws", "--set", "image=a", "--set", "region=x\nevil: 1"], "a setting is one line"),
        (["slurm", "--set", "sweep=quickstart", "--set", "archive=here"], "--archive 'here' is relative"),
        (
            ["slurm", "--set", "sweep=quickstart,quickstart", "--set", "archive=/a"],
            "two files are of sweep 'quickstart'",
        ),
        (["slurm", "--set", "sweep=quickstrat", "--set", "archive=/a"], "unknown sweep 'quickstrat'"),
        (["kuberay-job", *(f"--set={s}" for s in (*S3[1:], "archive=/data"))], "pods have no such folder"),
    ],
)
def test_bad_settings_are_one_line(capsys, arguments, message):
    assert main(["cluster", "template", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_every_template_is_listed_with_its_settings(capsys):
    assert main(["cluster", "template"]) == 0
    listed = capsys.readouterr().out
    assert all(f"{kind}: " in listed for kind in KINDS) and "image             container image" in listed


def test_a_template_is_written_to_a_file(capsys, tmp_path):
    path = tmp_path / "cluster.yaml"
    assert main(["cluster", "template", "kuberay-cluster", "--set", "image=a", "-o", str(path)]) == 0
    assert yaml.safe_load(path.read_text())["kind"] == "RayCluster" and capsys.readouterr().out.strip() == str(path)
