"""Does every node of the cluster have ppodd, and see the archive? Asked before a sweep writes anything."""

from __future__ import annotations

import secrets
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cluster.dispatch import ServiceTimings
from ppodd.errors import BadInput, StorageError, one_line
from ppodd.files import Folder


def check_archive(archive_url: str) -> None:
    """Find a file that is written here seen from every node of the cluster.

    Raises:
        BadInput: a node sees another place, or lacks a package.
        StorageError: a node cannot read the place, or does not answer.
    """
    folder, name, content = Folder(archive_url), f".reach-{secrets.token_hex(8)}", secrets.token_bytes(16)
    folder.write(name, content)
    try:
        nodes = [(node["NodeManagerAddress"], node["NodeID"]) for node in ray.nodes() if node["Alive"]]
        answers = [(host, _on(node).remote(folder.url, name)) for host, node in nodes]
        for host, answer in answers:
            _check(archive_url, host, answer, content)
    finally:
        folder.remove(name)


def _on(node: str) -> Any:
    return _read.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False))


@ray.remote(num_cpus=0, max_retries=0)
def _read(archive_url: str, name: str) -> bytes:
    """On a node. Being decorated it travels by value, so a node that lacks a package can say so."""
    from ppodd.own_packages import claim

    claim()
    from ppodd.files import Folder

    return Folder(archive_url).read(name)


def _check(archive_url: str, host: str, answer: ray.ObjectRef, content: bytes) -> None:
    try:
        if ray.get(answer, timeout=ServiceTimings().node_s) == content:
            return
        reason = "another file is there"
    except ray.exceptions.RayTaskError as error:
        reason = one_line(error.cause)
        if isinstance(error.cause, ModuleNotFoundError):
            raise BadInput(
                f"node {host} lacks a package: {reason}; install ppodd there, or ship it with --working-dir"
            ) from None
        if isinstance(error.cause, StorageError):
            raise StorageError(f"node {host} cannot read archive {archive_url!r}: {reason}") from None
    except ray.exceptions.RayError as error:
        raise StorageError(
            f"node {host} does not say whether it sees archive {archive_url!r}: {one_line(error)}"
        ) from None
    raise BadInput(
        f"archive {archive_url!r} is not seen from node {host}: {reason}; "
        f"name a shared folder or a URL such as s3://… that every node can read and write"
    )
