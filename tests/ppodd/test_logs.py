"""Log lines: levels, fields, and where they go."""

import logging
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from flags import flags

from ppodd import logs
from ppodd.cli.main import main
from ppodd.errors import BadInput

LOG = logging.getLogger("ppodd.somewhere")


@pytest.fixture
def quiet_again():
    yield
    for name in ("ppodd", "results", "cluster", "tune"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).setLevel(logging.NOTSET)


@pytest.mark.usefixtures("quiet_again")
def test_a_line_names_module_level_and_what_it_is_about(capsys):
    logs.start("info")
    with logs.about(sweep="boost", trial="lr=1"), logs.about(stage=2):
        LOG.info("archived", extra={"ticket": "abc"})
        LOG.debug("not shown")
    LOG.info("later")
    first, second = capsys.readouterr().err.splitlines()
    assert first.endswith("Z INFO ppodd.somewhere [sweep=boost trial=lr=1 stage=2 ticket=abc] archived")
    assert second.endswith("Z INFO ppodd.somewhere later")


@pytest.mark.usefixtures("quiet_again")
def test_passwords_of_urls_and_repeated_starts_leave_one_clean_line(capsys):
    logs.start("warning")
    logs.start("warning")
    LOG.warning("cannot reach %s", "postgresql://me:secret@host/db")
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "me:***@host" in said and "secret" not in said


@pytest.mark.parametrize(
    ("flags", "variable", "level"),
    [
        (["-v"], "", logging.INFO),
        (["-vv"], "", logging.DEBUG),
        (["-v", "-v"], "", logging.DEBUG),
        (["--log-level", "error"], "debug", logging.ERROR),
        (["--log-level=INFO"], "", logging.INFO),
        ([], "debug", logging.DEBUG),
        ([], "", logging.WARNING),
    ],
)
@pytest.mark.usefixtures("quiet_again")
def test_flags_and_the_environment_choose_the_level(flags, variable, level, monkeypatch, capsys):
    monkeypatch.setenv("PPODD_LOG_LEVEL", variable)
    assert main(["cluster", "template", *flags]) == 0
    assert logging.getLogger("ppodd").level == logging.getLogger("tune").level == level


@pytest.mark.usefixtures("quiet_again")
def test_a_level_that_there_is_not_is_bad_input(capsys, monkeypatch):
    monkeypatch.delenv("PPODD_LOG_LEVEL", raising=False)
    with pytest.raises(BadInput, match=r"unknown log level 'loud' \(accepted: critical, debug, error, info, warning\)"):
        logs.start("loud")
    assert main(["cluster", "template", "--log-level", "inf"]) == 2
    assert "unknown log level 'inf'; did you mean 'info'?" in capsys.readouterr().err


def test_a_process_knows_the_file_that_its_lines_go_to(tmp_path):
    code = "from ppodd.logs import log_file; print(log_file())"
    path = tmp_path / "worker.err"
    with path.open("w") as file:
        ran = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=file, text=True, cwd=ROOT)
    assert ran.stdout.strip() == str(path)
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert ran.stdout.strip() == ""


ROOT = Path(__file__).parents[2]


def test_a_distillation_logs_its_stages_with_their_trial_and_at_debug_its_checkpoints(tiny, tmp_path):
    def said(*more):
        words = ["distill", "--archive", str(tmp_path), "--name", "run", "--no-evaluate", *more, *flags(tiny)]
        command = [sys.executable, "-m", "ppodd", *words]
        return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True).stderr

    lines = [line.split("Z ", 1)[1] for line in said("-v").splitlines()]
    about = "[sweep=runs trial=run stage={}]"
    assert f"INFO ppodd.distillation.archived_run {about.format(1)} begins after meta-step 0" in lines
    archived = [line for line in lines if f"{about.format(2)} archived, validation accuracy" in line]
    assert len(archived) == 1 and "checkpoint" not in "".join(lines)
    for left in ("stage-02", "resume"):
        shutil.rmtree(tmp_path / "runs/run" / left)
    again = said("-vv", "--resume")
    assert f"DEBUG ppodd.distillation.archived_run {about.format(2)} checkpoint at meta-step 4" in again
