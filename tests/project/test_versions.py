"""The versions of what ppodd needs: the oldest that it accepts are those that it was tested with."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TESTED = dict(re.findall(r"^([\w-]+)==([\d.]+)", (ROOT / ".ci/oldest.txt").read_text(), re.MULTILINE))
OF_TESTS = re.compile(r"^(CHECKS|SERVERS|DOCS) = \[.*?\](?=\s)", re.MULTILINE | re.DOTALL)
NEEDED = OF_TESTS.sub("", (ROOT / "setup.py").read_text())
ACCEPTED = dict(re.findall(r'"([\w-]+)(?:\[\w+\])?>=([\d.]+)"', NEEDED))


@pytest.mark.parametrize("package", sorted(ACCEPTED))
def test_the_oldest_accepted_version_was_tested(package):
    tested, accepted = (tuple(map(int, v[package].split("."))) for v in (TESTED, ACCEPTED))
    assert tested[: len(accepted)] == accepted and not any(tested[len(accepted) :]), "see .ci/oldest.txt"
