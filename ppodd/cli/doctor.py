"""What this machine offers to ppodd, what is missing, and how to get it; with --dataset, what is read of a data set."""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import shutil
import tempfile
from pathlib import Path
from typing import Any

from ppodd.cli.options import add_config_flags, given
from ppodd.cli.output import CommandResult
from ppodd.config import PRESETS, DistillConfig, absolute_paths, build, preset
from ppodd.errors import BadInput
from ppodd.words import counted

EXAMPLES = """\
  ppodd doctor
  ppodd doctor --dataset ./my-images
"""
_SHEET = "contact-sheet.png"
_PACKAGES = {
    "torch": "",
    "torchvision": "",
    "ray": "sweep",
    "mlflow": "sweep",
    "pandas": "sweep",
    "matplotlib": "sweep",
    "datasets": "data",
    "pyarrow": "parquet",
    "transformers": "clip",
    "s3fs": "s3",
}
# The fields that say which data is read, and how.
_OF_DATA = ("dataset", "root", "image_size", "classes", "per_class", "image_column", "label_column", "on_bad_image")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--ray-address", help="look at this Ray cluster too")
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        help=f"pictures of the data set (default: {_SHEET}, or a temporary file where this folder is in the data set)",
    )
    add_config_flags(parser, DistillConfig, "a data set to look at instead", _OF_DATA)


def run(args: argparse.Namespace) -> CommandResult:
    flags = given(args, DistillConfig)
    return _look_at_data(flags, args.output) if flags else _look_at_machine(args)


def _look_at_data(flags: dict[str, Any], output: str | None) -> CommandResult:
    """Say what is read of a data set, and write its contact sheet."""
    if "dataset" not in flags:
        raise BadInput(f"{', '.join(f'--{name}' for name in flags)}: name the data set by --dataset")

    from ppodd.cli.console import fitted
    from ppodd.datasets import contact_sheet, read_images
    from ppodd.files import atomic_write

    dataset = flags["dataset"]
    config = build(DistillConfig, {**(preset(dataset) if dataset in PRESETS else {}), **flags})
    if output:
        _check_output(output, config.dataset)
    config = absolute_paths(config)
    images, _ = read_images(config.data)
    output = output or (_temporary() if _is_within(Path(), config.dataset) else _SHEET)
    print(fitted(images.report.lines()))
    atomic_write(output, contact_sheet(images))
    print(f"{output}: pictures of each class, training on the left, test on the right")
    return CommandResult(0, {"dataset": config.dataset, "read": images.report.lines(), "file": output})


def _check_output(output: str, dataset: str) -> None:
    """Raise `BadInput` where the contact sheet is no .png, or would lie among the data's own files."""
    path = Path(output).absolute()
    if path.suffix.lower() != ".png" or path.is_dir() or not path.parent.is_dir():
        raise BadInput(f"--output {output!r}: name a .png file in a folder that is there")
    if _is_within(path, dataset):
        raise BadInput(f"--output {output!r} lies in the data set {dataset}: name a file elsewhere, --output PATH.png")


def _is_within(path: Path, dataset: str) -> bool:
    """Whether a path is among the files of a data set that is a folder."""
    place = Path(dataset).expanduser()
    return place.is_dir() and path.resolve().is_relative_to(place.resolve())


def _temporary() -> str:
    """A new file for a contact sheet."""
    handle, path = tempfile.mkstemp(prefix="ppodd-", suffix=f"-{_SHEET}")
    os.close(handle)
    return path


def _look_at_machine(args: argparse.Namespace) -> CommandResult:
    from ppodd import __version__

    print(f"ppodd {__version__}, Python {platform.python_version()}, {platform.system()} {platform.machine()}")
    found: dict[str, Any] = {"python": platform.python_version(), "packages": _packages()}
    for name, version in found["packages"].items():
        missing = f"missing: pip install 'ppodd[{_PACKAGES[name]}]'"
        print(f"  {name:13} {version or missing}")

    import torch

    from ppodd.files import cache_folder, may_write, nearest_existing
    from ppodd.machine import cores, limit_threads, machine_cores, machine_memory_bytes, memory_bytes

    limit_threads()
    threads = counted(torch.get_num_threads(), "thread")
    print(f"cores: {cores()} of {machine_cores()} may be used (torch: {threads})")
    print(f"memory: {memory_bytes() / 2**30:.0f} of {machine_memory_bytes() / 2**30:.0f} GiB may be used")
    for index in range(torch.cuda.device_count()):
        gpu = torch.cuda.get_device_properties(index)
        print(f"cuda:{index}: {gpu.name}, {gpu.total_memory / 2**30:.0f} GiB")
        found.setdefault("gpus", []).append({"name": gpu.name, "memory_gib": gpu.total_memory / 2**30})
    if not torch.cuda.device_count():
        print("no CUDA device: the …-small presets are meant for this machine; the others need a GPU")
    for what, folder in (("here", Path.cwd()), ("data cache", cache_folder())):
        there = nearest_existing(folder)
        writable = "" if may_write(folder) else ", NOT WRITABLE"
        print(f"{what}: {folder}, {shutil.disk_usage(there).free / 2**30:.0f} GiB free{writable}")
    if args.ray_address:
        from cluster.service import connect

        connect(args.ray_address)
        import ray

        found["cluster"] = {k: v for k, v in ray.cluster_resources().items() if ":" not in k}
        print(f"Ray at {args.ray_address}: {found['cluster']}")
    return CommandResult(0, {**found, "cores": cores(), "memory_gib": memory_bytes() / 2**30})


def _packages() -> dict[str, str | None]:
    """The version of each package that is made use of; of one that is missing none."""
    versions: dict[str, str | None] = {}
    for name in _PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    return versions
