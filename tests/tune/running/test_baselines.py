"""A sweep of methods: baselines in one file with what they are compared with, killed and gone on with."""

import os
import signal
import subprocess

import pytest
from sweeps import PATH, command, evaluated, finished_at, ppodd, sweep_file, wait_for

from ppodd.archive import Archive
from results.analysis.tidy_frame import frame
from results.tracking.store import default_tracking_uri

METHODS = ["p-podd", "podd-cumulative", "downscaled", "random-poster", "full-data", "chance"]


@pytest.mark.slow  # two drivers on real Ray: about a minute
def test_baselines_of_one_file_are_archived_resumed_evaluated_and_shown_like_any_other(tiny, tmp_path):
    config = {**tiny, "num_stages": 2, "epochs": 24}
    path = sweep_file(tmp_path, config, grid={"method": METHODS, "num_stages": [2]}, seeds=[0, 1, 2])
    driver = subprocess.Popen(command("sweep", path), cwd=tmp_path, env={**os.environ, **PATH}, start_new_session=True)
    archive = Archive(tmp_path / "ppodd-archive")
    wait_for(lambda: sum(len(archive.trial("tiny", name).stages()) for name in archive.trials("tiny")) > 1)
    os.killpg(driver.pid, signal.SIGKILL)
    driver.wait()
    before = finished_at(archive, "tiny")
    resumed = ppodd("sweep", path, "--resume", cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    assert "over random" in resumed.stdout and "of full data" in resumed.stdout
    records = evaluated(archive, "tiny")
    stages = {"p-podd": 2, "downscaled": 2, "random-poster": 2}
    assert len(records) == 3 * sum(stages.get(method, 1) for method in METHODS)
    assert all(len(found) == 1 for found in records.values())
    for (name, stage), finished in before.items():
        assert archive.trial("tiny", name).stage(stage).finished_at == finished  # not done twice
    rows = frame(default_tracking_uri(archive.url))
    last = rows[(rows["stage"] == rows["num_stages"]) & (rows["steps"] == 4)]
    assert set(last["method"]) == set(METHODS) and (last.groupby("method")["seed"].nunique() == 3).all()
    assert last[last["method"] == "p-podd"][["over_random_pct", "of_full_data_pct"]].notna().all(axis=None)
    for look in (["table"], ["compare", "--by", "method"], ["curve", "-o", "c.svg"], ["report"]):
        shown = ppodd("results", *look, cwd=tmp_path)
        assert shown.returncode == 0, shown.stderr
    page = (tmp_path / "report.html").read_text()
    first = page[page.index('<p class="lead">') :]
    assert "over random real images of as many pixels" in first[: first.index("</section>")]
