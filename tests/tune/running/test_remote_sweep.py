"""A whole sweep with its archive on S3, on real Ray: killed, resumed, evaluated, logged, looked at."""

import os
import signal
import subprocess
from pathlib import Path

import pytest
from sweeps import PATH, command, evaluated, ppodd, sweep_file, wait_for

from ppodd.archive import Archive
from ppodd.cli.main import main
from ppodd.files.folder import Folder
from results.analysis.tidy_frame import frame
from results.tracking.store import default_tracking_uri

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.mark.slow
def test_a_sweep_on_s3_is_finished_by_resume_and_looked_at_from_anywhere(
    bucket, gate, tiny, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("PPODD_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    archive = Archive(f"{bucket}/runs")
    path = sweep_file(tmp_path, {**tiny, "epochs": 24})
    begin = command("sweep", path, "--archive", archive.url)
    driver = subprocess.Popen(begin, cwd=tmp_path, env={**os.environ, **PATH}, start_new_session=True)
    try:
        wait_for(lambda: any(state.told_progress for state in archive.states("tiny").values()), seconds=240)
    finally:
        os.killpg(driver.pid, signal.SIGKILL)
        driver.wait()
    assert len(evaluated(archive, "tiny")) < 3

    resumed = ppodd("sweep", path, "--archive", archive.url, "--resume", cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    records = evaluated(archive, "tiny")
    assert len(records) == 3 and all(len(found) == 1 for found in records.values())
    assert len(frame(default_tracking_uri(archive.url))) == 3 * 2
    assert f"{archive.url}/tiny/accuracy-vs-ipc.png" in resumed.stdout
    names = set(Folder(archive.url).find())
    assert "tiny/accuracy-vs-ipc.png" in names and not any("mlflow" in name for name in names)
    assert not (tmp_path / "mlflow.db").exists() and not list(tmp_path.glob("s3:*"))

    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    trial = archive.trial("tiny", "num_stages=2,seed=0")
    for arguments in (
        ("results", "table", "--archive", archive.url),
        ("results", "report", "--archive", archive.url, "-o", "report.html"),
        ("render", trial.url, "-o", "posters.png"),
        ("export", f"{trial.url}/stage-02", "-o", "patches.npz"),
        ("evaluate", f"{trial.url}/stage-02", "--nets", "1"),
    ):
        assert main(arguments) == 0, capsys.readouterr().err
    assert {path.name for path in Path().iterdir()} == {"posters.png", "patches.npz", "report.html"}
    assert len(trial.evaluations(2)) == 2 and "num_stages" in capsys.readouterr().out
