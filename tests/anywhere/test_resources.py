"""What trials reserve beside cores and GPUs: checked in the file, placed by hand-made clusters, given to real Ray."""

import os

import pytest
from sweeps import ppodd, sweep_file

from ppodd.errors import BadInput
from tune.running.node_placement import Node, placement
from tune.sweep_file import SweepFile, load_sweep

REFUSED = [
    ({"resources": {"accelerator_type": "A100"}}, "accelerator_type A100 is a GPU's: write gpus too"),
    ({"resources": {"gpus": 1, "accelerator_type": "A 100"}}, "accelerator_type"),
    ({"resources": {"custom": {"GPU": 1}}}, "custom GPU is Ray's own: write cpus, gpus or memory_gib"),
    ({"resources": {"custom": {"licence": 0}}}, "greater than 0"),
    ({"resources": {"custom": {"licence": 0.00001}}}, "the least that Ray reserves is 0.0001"),
    ({"resources": {"cpus": 0.00001}}, "the least that Ray reserves is 0.0001: write that or more"),
    ({"resources": {"gpus": 0.00001}}, "the least that Ray reserves is 0.0001"),
    ({"evaluators": {"cpus": 0.00001}}, "the least that Ray reserves is 0.0001"),
    ({"resources": {"memory_gib": -1}}, "greater than 0"),
    ({"resources": {"memory": 4}}, "did you mean 'memory_gib'?"),
    ({"evaluators": {"memory_gib": 4}}, "unknown evaluators key 'memory_gib'"),
    ({"grid": {"device": ["cpu", "cuda"]}}, "device cuda: trials reserve no GPU; write resources: {gpus: 1}"),
    ({"config": {"device": "cuda:0"}, "grid": {"lr": [0.1, 0.2]}}, "line 4: device cuda:0: trials reserve no GPU"),
]


@pytest.mark.parametrize(("changes", "message"), REFUSED)
def test_what_cannot_be_reserved_is_refused_with_its_line(changes, message, tmp_path, tiny):
    path = sweep_file(tmp_path, tiny, **changes)
    with pytest.raises(BadInput) as error:
        load_sweep(path)
    assert message in str(error.value) and str(path) in str(error.value)


def test_a_gpu_that_is_reserved_may_be_computed_on(tmp_path, tiny):
    path = sweep_file(tmp_path, tiny, config={"device": "cuda"}, resources={"gpus": 0.5})
    assert all(config.device == "cuda" for config in load_sweep(path).trials.values())


def file(**resources):
    return SweepFile(name="s", resources=resources, evaluators={"cpus": 0})


def test_trials_are_placed_by_all_that_they_reserve():
    gib = 2**30
    nodes = [Node(8, [], {"memory": 10.0 * gib, "licence": 9}), Node(8, [], {"memory": 5.0 * gib, "licence": 1})]
    assert placement(file(cpus=1, memory_gib=4), nodes).at_once == 3
    assert placement(file(cpus=1, memory_gib=4, custom={"licence": 1}), nodes).at_once == 3
    assert placement(file(cpus=1, custom={"licence": 4}), nodes).at_once == 2
    assert placement(file(cpus=0, custom={"licence": 1}), nodes).at_once == 10


def test_a_model_of_gpus_that_no_node_has_is_refused_with_those_there_are():
    nodes = [Node(8, [1.0], {"accelerator_type:T4": 1.0}), Node(8, [1.0], {"accelerator_type:A10G": 1.0})]
    assert placement(file(gpus=0.25, accelerator_type="T4"), nodes).at_once == 4
    with pytest.raises(BadInput) as error:
        placement(file(gpus=1, accelerator_type="A100"), nodes)
    assert "a trial asks for 1 CPU and 1 GPU and GPU model A100, which no node of the cluster has" in str(error.value)
    assert "1 CPU" in str(error.value) and "GPU model A10G" in str(error.value) and "GPU model T4" in str(error.value)


def test_ray_is_asked_for_what_is_reserved(tmp_path, tiny):
    """On real Ray: memory that this machine has is given, more than it has is refused before anything is written."""
    file = sweep_file(tmp_path, tiny, grid={"num_stages": [1]}, resources={"cpus": 1, "memory_gib": 0.25})
    refused = ppodd("sweep", file, "--set", "resources.memory_gib=100000", cwd=tmp_path)
    assert refused.returncode == 2 and "asks for 1 CPU and 0 GPU and 1e+05 GiB of memory" in refused.stderr
    assert "GiB of memory)" in refused.stderr and os.listdir(tmp_path) == ["sweep.yaml"]
    done = ppodd("sweep", file, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
