"""Templates of clusters that ppodd's sweeps run on, with a lab's own numbers filled in."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import pydantic
from pydantic import Field

from cluster.jobs import require_shared, versions
from ppodd.errors import BadInput, unknown
from ppodd.files import is_remote

TEMPLATES = Path(__file__).parent
SHARED = "/shared"  # where a volume claim is mounted in every pod

Name = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?$")]
Memory = Annotated[str, Field(pattern=r"^[1-9]\d*(Mi|Gi|Ti)$")]
Word = Annotated[str, Field(pattern=r"^\S+$")]
Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]
Model = Annotated[str, Field(pattern=r"^[\w-]*$")]
Amounts = Annotated[str, Field(pattern=r"^$|^[A-Za-z_][\w-]*=[1-9]\d*(,[A-Za-z_][\w-]*=[1-9]\d*)*$")]
_BYTES = {"Mi": 2**20, "Gi": 2**30, "Ti": 2**40}


class Settings(pydantic.BaseModel):
    """The settings that every template has."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    name: Name = Field("ppodd", description="the cluster's name")
    nodes: Positive = Field(2, description="nodes that trials and evaluators run on")
    cpus: Positive = Field(8, description="CPUs of each")
    gpus: Count = Field(1, description="GPUs of each")
    accelerator_type: Model = Field(
        "", description="GPUs' model by Ray's name, such as A100, where a sweep asks for it"
    )
    resources: Amounts = Field("", description="what else each node has, NAME=AMOUNT,… as a sweep's resources.custom")
    tracking_uri: str = Field("", description="MLflow's address, as the nodes reach it")

    @property
    def ray_resources(self) -> dict[str, int]:
        """What each node has beside cores, GPUs and memory, by Ray's names."""
        model = {f"accelerator_type:{self.accelerator_type}": 1} if self.accelerator_type else {}
        pairs = (entry.split("=") for entry in self.resources.split(",") if entry)
        return {**model, **{name: int(amount) for name, amount in pairs}}

    @property
    def memory_bytes(self) -> float:
        """Of each node, as far as it is said."""
        memory = getattr(self, "memory", "")
        return int(memory[:-2]) * _BYTES[memory[-2:]] if memory else math.inf


class RayCluster(Settings):
    """Kubernetes, by KubeRay: a cluster that stays, for `ppodd submit`."""

    image: Word = Field(description="container image that holds ppodd and Ray")
    memory: Memory = Field("32Gi", description="memory of each node")
    namespace: Name = Field("default", description="Kubernetes namespace")
    node_selector: Annotated[str, Field(pattern=r"^$|^[^=\s]+=[^=\s]+$")] = Field(
        "", description="label of the nodes, such as nvidia.com/gpu.product=NVIDIA-A100-SXM4-80GB"
    )
    secret: str = Field("", description="Kubernetes secret whose keys become environment variables")
    claim: str = Field("", description=f"volume claim (ReadWriteMany) for a shared folder, mounted at {SHARED}")
    ray_version: str = Field(default_factory=lambda: versions.here()["ray"], description="Ray's version in the image")


class RayJob(RayCluster):
    """Kubernetes, by KubeRay: a cluster that lives for one sweep."""

    sweep: str = Field(description="sweep file or shipped sweep; its text becomes part of the output")
    archive: str = Field(description=f"archive: a URL, or a folder in {SHARED} with a claim")


class RayUpAws(Settings):
    """AWS, by `ray up`: a head and GPU machines, for `ppodd submit`."""

    image: Word = Field(description="container image that holds ppodd and Ray")
    region: Word = Field("us-west-2", description="AWS region")
    head_instance: Word = Field("m5.xlarge", description="EC2 type of the head, which runs no trials")
    instance: Word = Field("g5.2xlarge", description="EC2 type of the nodes; cpus and gpus are what it has")
    memory: Annotated[str, Field(pattern=r"^$|^[1-9]\d*(Mi|Gi|Ti)$")] = Field(
        "", description="memory of each node that trials may reserve (default: what Ray finds there)"
    )
    instance_profile: str = Field("", description="ARN of the IAM instance profile that may use the archive's bucket")


class Slurm(Settings):
    """Slurm: a batch job that starts Ray on its nodes, runs one sweep, and ends when all of it is evaluated.

    At its time limit it checkpoints and is queued again.
    """

    memory: Memory = Field("32Gi", description="memory of each node")
    sweep: str = Field(description="sweep file or shipped sweep; several, with commas, become an array of jobs")
    archive: str = Field(description="archive: a URL, or an absolute path that every node mounts")
    partition: str = Field("", description="Slurm partition")
    account: str = Field("", description="account that is charged")
    qos: str = Field("", description="quality of service")
    gpu_type: Model = Field("", description="GPUs' model by Slurm's name, such as a100")
    constraint: str = Field("", description="features that nodes must have, such as a100|h100")
    time: Word = Field("24:00:00", description="time limit, after which the job is queued again")
    setup: str = Field(
        "", description="command that puts ppodd's Python on the PATH, such as '. /shared/venv/bin/activate'"
    )

    @property
    def sweeps(self) -> list[str]:
        """One, or those of an array of jobs."""
        return self.sweep.split(",")


KINDS: dict[str, tuple[type[Settings], str]] = {
    "kuberay-cluster": (RayCluster, "kuberay-cluster.yaml"),
    "kuberay-job": (RayJob, "kuberay-job.yaml"),
    "ray-up-aws": (RayUpAws, "ray-up-aws.yaml"),
    "slurm": (Slurm, "slurm.sh"),
}


def render(kind: str, values: Mapping[str, str], sweep_text: str = "") -> str:
    """The template of this name with these settings; `sweep_text` is the file that `sweep` names.

    Raises:
        BadInput: there is no such template or setting, one is missing, or a value is none of its kind.
    """
    import jinja2

    settings = filled_in(kind, values)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        comment_start_string="{##",  # `${#array[@]}` is shell
    )
    environment.filters["quoted"] = lambda text: json.dumps(text, ensure_ascii=False)  # which is a YAML string too
    environment.filters["shell"] = shlex.quote
    command = ["ppodd", "cluster", "template", kind, *(f"--set={name}={value}" for name, value in values.items())]
    template = environment.get_template(KINDS[kind][1])
    return template.render(s=settings, shared=SHARED, sweep_text=sweep_text, command=shlex.join(command))


def describe(kind: str) -> str:
    """A template's purpose and its settings, a line each."""
    model = KINDS[kind][0]
    lines = [f"{kind}: {' '.join((model.__doc__ or '').split())}"]
    for name, field in model.model_fields.items():
        default = "required" if field.is_required() else field.get_default(call_default_factory=True)
        lines.append(f"  {name:17} {field.description}" + (f" ({default})" if default != "" else ""))
    return "\n".join(lines)


def filled_in(kind: str, values: Mapping[str, str]) -> Settings:
    """The settings of a template, checked. Raises `BadInput` as `render` does."""
    if kind not in KINDS:
        raise unknown("template", kind, KINDS)
    model = KINDS[kind][0]
    for name, value in values.items():
        if name not in model.model_fields:
            raise unknown(f"setting of {kind}", name, model.model_fields)
        if not value.isprintable():
            raise BadInput(f"--set {name}={value!r}: a setting is one line of text")
    missing = [name for name, field in model.model_fields.items() if field.is_required() and name not in values]
    if missing:
        what = ", ".join(f"--set {name}=… ({model.model_fields[name].description})" for name in missing)
        raise BadInput(f"template {kind} needs {what}")
    try:
        settings = model.model_validate(values)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        raise BadInput(f"--set {first['loc'][0]}={first['input']!r}: {first['msg']}") from None
    if isinstance(settings, RayJob | Slurm):
        _check_archive(settings)
    return settings


def _check_archive(settings: RayJob | Slurm) -> None:
    archive = require_shared(settings.archive)
    mounted = isinstance(settings, Slurm) or (settings.claim and archive.startswith(f"{SHARED}/"))
    if not is_remote(archive) and not mounted:
        raise BadInput(
            f"--set archive={archive}: pods have no such folder; name a URL, or a folder in {SHARED} with "
            f"--set claim=… (a ReadWriteMany volume claim)"
        )
