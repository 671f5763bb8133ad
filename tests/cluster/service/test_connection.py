"""What is said where a cluster cannot be joined."""

from cluster.service.ray_runtime import _said


def test_unequal_versions_of_ray_are_both_said():
    error = RuntimeError("Version mismatch: The cluster was started with:\n    Ray: 2.59.0\nThis process: Ray: 2.60.0")
    assert _said(error).endswith("Ray: 2.59.0 This process: Ray: 2.60.0")
    assert _said(ConnectionError("refused\nmore")) == "refused"
