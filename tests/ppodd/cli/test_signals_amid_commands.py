"""Commands that compute for long, besides those that resume: a signal ends them with one line and nothing half-done."""

import os
import signal
import subprocess
import sys

import pytest
import torch
from archives import write_sweep
from flags import flags
from sweeps import PATH, started, wait_for

from ppodd.archive import Archive, TrialArchive
from ppodd.cli.main import main
from ppodd.config import DistillConfig, EvaluationConfig, build, preset
from ppodd.distillation import run

LONG = str(2 * 10**5)  # training steps: minutes; their draws are made at once, which no signal interrupts
# the command as it is, but that it says so and waits where it calls this
PAUSING = """
import sys, time
from unittest import mock
from ppodd.cli.main import main
def pause(*given, **named):
    print("now", flush=True)
    time.sleep(600)
with mock.patch({where!r}, pause):
    sys.exit(main())
"""


def evaluate(tiny, folder):
    """Amid the training of its networks."""
    trial = TrialArchive(folder / "archive/runs/run")
    list(run(build(DistillConfig, {**tiny, "num_stages": 1, "name": "run"}), trial))
    return ["evaluate", trial.url, "--budgets", LONG], folder / "archive/runs/run/evaluator.json"


def import_(tiny, folder):
    """Amid the same, of posters that are archived."""
    torch.save(torch.rand(1, 1, 12, 24), folder / "made_poster.pt")
    layout = {k: v for k, v in tiny.items() if k not in ("num_stages", "budgets", "poster_width", "poster_height")}
    line = [
        "import",
        f"{folder}/made_poster.pt",
        *flags(layout),
        "--class_order=means",
        "--budgets",
        LONG,
        f"--archive={folder}/archive",
    ]
    return line, folder / "archive/runs/made/evaluator.json"


def report(tiny, folder):
    """With the page written beside its place, before it is put there."""
    sync(tiny, folder)
    assert main(["results", "sync", f"--archive={folder}/archive"]) == 0
    return ["results", "report", f"--archive={folder}/archive", "-o", f"{folder}/report.html"], "os.fsync"


def sync(tiny, folder):
    """With runs made in the store, before they are filled."""
    configs = [{**preset("digits-small"), "num_stages": 1}]
    write_sweep(Archive(folder / "archive"), "lab", configs, EvaluationConfig(nets=1, budgets=(20,)))
    return ["results", "sync", f"--archive={folder}/archive"], "results.tracking.mlflow_internals.fill"


ENDINGS = [
    (signal.SIGTERM, 143, "ppodd: interrupted by SIGTERM\n"),
    pytest.param(signal.SIGHUP, 129, "ppodd: interrupted by SIGHUP\n", marks=pytest.mark.slow),  # 5 seconds each
    pytest.param(signal.SIGINT, 1, "ppodd: interrupted\n", marks=pytest.mark.slow),
]


AMID = [evaluate, sync, *(pytest.param(amid, marks=pytest.mark.slow) for amid in (import_, report))]


@pytest.mark.parametrize("amid", AMID)
@pytest.mark.parametrize(("number", "code", "said"), ENDINGS, ids=["SIGTERM", "SIGHUP", "SIGINT"])
def test_it_ends_with_its_code_one_line_and_nothing_half_done(amid, number, code, said, tiny, tmp_path, capsys):
    line, moment = amid(tiny, tmp_path)
    whole = everything(tmp_path)
    program = ["-m", "ppodd"] if isinstance(moment, os.PathLike) else ["-c", PAUSING.format(where=moment)]
    how = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "env": {**os.environ, **PATH}, "cwd": tmp_path}
    with started([sys.executable, *program, *line], **how) as process:
        if isinstance(moment, os.PathLike):
            wait_for(lambda: process.poll() is not None or moment.exists())
        else:
            assert "now\n" in process.stdout
        process.send_signal(number)
        assert (process.stderr.read(), process.wait()) == (said, code)
    left = everything(tmp_path) - whole
    if amid in (evaluate, report):
        assert not left
    elif amid is import_:
        assert TrialArchive(tmp_path / "archive/runs/made").stages() == [1] and not any("evaluat" in n for n in left)
    assert not any("/." in name or name.endswith(("writer.json", "evaluator.json")) for name in left)
    if amid is sync:
        assert main(line) == 0 and main(["results", "table", f"--archive={tmp_path}/archive"]) == 0
        assert "test accuracy on digits" in capsys.readouterr().out


def everything(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
