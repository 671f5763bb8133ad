"""Ctrl-C, SIGTERM, SIGHUP: a checkpoint, one line, an exit code that says which; a second one ends at once."""

import contextlib
import os
import pty
import signal
import subprocess
import sys
import time

import pytest
from flags import flags
from sweeps import PATH, started, wait_for

from ppodd.archive import TrialArchive
from ppodd.cli.main import _say_interrupted
from ppodd.config import DistillConfig, build
from ppodd.distillation import run

LONG = {"epochs": 2000, "checkpoint_every": 10**6, "num_stages": 1}  # no checkpoint but that of the signal
ENVIRONMENT = {**os.environ, **PATH}


def distill(tiny, archive):
    command = [sys.executable, "-m", "ppodd", "distill", "--archive", str(archive), "--name", "run", "--no-evaluate"]
    return [*command, *flags({**tiny, **LONG})]


def under_way(archive):
    wait_for(lambda: TrialArchive(archive / "runs/run").progress())


@pytest.mark.parametrize(
    ("number", "code", "ended"),
    [
        (signal.SIGINT, 1, "interrupted"),
        (signal.SIGTERM, 143, "interrupted by SIGTERM"),
        (signal.SIGHUP, 129, "interrupted by SIGHUP"),
    ],
    ids=["SIGINT", "SIGTERM", "SIGHUP"],
)
def test_a_signal_leaves_a_checkpoint_one_line_and_its_exit_code(tiny, tmp_path, number, code, ended):
    with started(distill(tiny, tmp_path), stderr=subprocess.PIPE, env=ENVIRONMENT) as process:
        under_way(tmp_path)
        process.send_signal(number)
        said = process.stderr.read()
    assert process.returncode == code
    assert said == f"ppodd: {ended}; the same command with --resume goes on from the last checkpoint\n"
    _, position = TrialArchive(tmp_path / "runs/run").resume()
    assert position.step > 0
    assert not (tmp_path / "runs/run/writer.json").exists()


def test_an_interrupted_run_comes_to_the_poster_of_an_undisturbed_one(tiny, tmp_path):
    config = build(DistillConfig, {**tiny, "checkpoint_every": 10**6, "name": "t"})
    whole, cut = (TrialArchive(tmp_path / where / "t") for where in ("whole", "cut"))
    expected = [record.digests for record in run(config, whole)]
    done = []
    for meta_step in (3, 6):  # of stage 1; of stage 2, counted from the run's start

        def interrupt(now, at=meta_step):
            if (now.stage - 1) * now.meta_steps + now.meta_step == at:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            list(run(config, cut, resume=True, progress=interrupt))
        done.append(cut.resume()[1].meta_steps)
    assert done == [3, 6]
    assert [record.digests for record in run(config, cut, resume=True)] == expected


def test_an_interrupt_amid_an_outer_step_leaves_the_checkpoint_before_it(tiny, tmp_path, monkeypatch):
    from ppodd.distillation import stages

    config = build(DistillConfig, {**tiny, "checkpoint_every": 2, "name": "t"})
    whole, cut = (TrialArchive(tmp_path / where / "t") for where in ("whole", "cut"))
    expected = [record.digests for record in run(config, whole)]
    step = stages.outer_step

    def half(config, state, *more):
        step(config, state, *more)
        if state.meta_steps == 4:
            state.moments = {}
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(stages, "outer_step", half)
        with pytest.raises(KeyboardInterrupt):
            list(run(config, cut))
    assert cut.resume()[1].meta_steps == 2
    assert [record.digests for record in run(config, cut, resume=True)] == expected


@pytest.mark.parametrize(
    ("line", "goes_on"),
    [
        ("distill --preset digits", True),
        ("-v sweep quickstart", True),
        ("sweep quickstart --dry-run", False),
        ("import x.pt --name distill", False),
        ("results report --sweep sweep", False),
        ("", False),
    ],
)
def test_resume_is_named_where_it_goes_on(line, goes_on, capsys):
    _say_interrupted(line.split())
    assert ("--resume" in capsys.readouterr().err) == goes_on


AMID_AN_OUTER_STEP = """
import os, signal, sys
from ppodd.cli.main import main
from ppodd.distillation import stages
step = stages.outer_step
def signalled(config, state, *more):
    step(config, state, *more)
    if state.meta_steps == 4:
        os.kill(os.getpid(), signal.SIGTERM)
stages.outer_step = signalled
sys.exit(main())
"""


def test_a_signal_amid_an_outer_step_leaves_the_checkpoint_after_it(tiny, tmp_path):
    command = [sys.executable, "-c", AMID_AN_OUTER_STEP, *distill(tiny, tmp_path)[3:]]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 143, done.stderr
    assert TrialArchive(tmp_path / "runs/run").resume()[1].meta_steps == 4


def test_what_has_ended_the_driver_stops_a_trial_at_its_next_meta_step(tiny, tmp_path):
    config, trial, asked = build(DistillConfig, {**tiny, "name": "t"}), TrialArchive(tmp_path / "t"), []
    with pytest.raises(KeyboardInterrupt):
        list(run(config, trial, stop=lambda: asked.append(0) or len(asked) == 4))
    assert trial.resume()[1].meta_steps == 3


def test_a_terminal_that_is_closed_leaves_a_checkpoint(tiny, tmp_path):
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(sys.executable, distill(tiny, tmp_path), ENVIRONMENT)
    try:
        under_way(tmp_path)
    finally:
        os.close(terminal)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 129
    assert TrialArchive(tmp_path / "runs/run").resume()[1].step > 0


SLOW_TO_END = """
import time
from ppodd import signals
{before}
signals.take_over(lambda: print("last words", flush=True))
try:
    print("begun", flush=True)
    time.sleep(60)
except KeyboardInterrupt:
    print("first", flush=True)
    time.sleep(60)
"""


@contextlib.contextmanager
def slow_to_end(before=""):
    command = [sys.executable, "-c", SLOW_TO_END.format(before=before)]
    with started(command, stdout=subprocess.PIPE, env=ENVIRONMENT) as process:
        assert process.stdout.readline() == "begun\n"
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_second_signal_ends_it_at_once(number, code):
    with slow_to_end("signals._ONE_WISH_S = 0") as process:  # else it is the same wish told twice, if it is soon
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "first\n"
        began = time.monotonic()
        process.send_signal(number)
        assert process.wait(10) == code and time.monotonic() - began < 5


def test_a_signal_that_comes_to_a_process_and_to_its_group_is_one_wish(tiny, tmp_path):
    """As `timeout` sends it."""
    line = ["timeout", "-s", "TERM", "60", *distill(tiny, tmp_path)]
    with started(line, stderr=subprocess.PIPE, env=ENVIRONMENT, start_new_session=True) as outer:
        under_way(tmp_path)
        outer.send_signal(signal.SIGTERM)
        assert outer.stderr.read().startswith("ppodd: interrupted by SIGTERM;")
    assert outer.returncode == 143 and TrialArchive(tmp_path / "runs/run").resume()[1].step > 0


AS_IT_IS_FREED = """
import os, signal, sys, time
from ppodd import signals
signals.take_over(lambda: None)
class Freed:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(1)
try:
    Freed()
    time.sleep(60)
except KeyboardInterrupt:
    sys.exit(signals.exit_code(0))
"""


def test_a_signal_that_comes_where_python_can_only_ignore_an_error_is_not_lost():
    """So it is within C code that a module runs as it is imported."""
    done = subprocess.run([sys.executable, "-c", AS_IT_IS_FREED], env=ENVIRONMENT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (143, "")


def test_what_ray_starts_hears_nothing_that_is_sent_to_the_group():
    from ppodd.signals import answered_alone

    with answered_alone():
        process = subprocess.Popen(["sleep", "60"], preexec_fn=lambda: None)
    try:
        assert os.getpgid(process.pid) == process.pid != os.getpgid(0)
    finally:
        process.kill()
        process.wait()


def test_a_second_hang_up_of_the_same_terminal_is_not_a_second_wish():
    with slow_to_end("signals.GRACE_S = 1") as process:
        process.send_signal(signal.SIGHUP)
        assert process.stdout.readline() == "first\n"
        process.send_signal(signal.SIGHUP)
        assert process.wait(10) == 129
        assert process.stdout.read() == "last words\n"  # so it had its time to end


def test_what_does_not_end_in_time_is_ended_with_its_line():
    with slow_to_end("signals.GRACE_S = 0.3") as process:
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 143
        assert process.stdout.read() == "first\nlast words\n"


def test_a_hang_up_that_is_ignored_stays_so():
    with slow_to_end("import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)") as process:
        process.send_signal(signal.SIGHUP)
        time.sleep(0.3)
        process.send_signal(signal.SIGTERM)
        assert process.stdout.readline() == "first\n"


LIKE_RAY = """
import os, signal, sys
from ppodd import signals
signals.take_over(lambda: None)
def started():
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(number))
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
try:
    with signals.kept():
        started()
        {when_starting}
    os.kill(os.getpid(), signal.{number})
except KeyboardInterrupt:
    sys.exit(signals.exit_code(0))
"""


@pytest.mark.parametrize(
    ("when_starting", "number", "code"),
    [("os.kill(os.getpid(), signal.SIGTERM)", "SIGHUP", 143), ("pass", "SIGTERM", 143), ("pass", "SIGHUP", 129)],
)
def test_a_library_that_takes_the_signals_while_it_starts_gives_them_back(when_starting, number, code):
    program = LIKE_RAY.format(when_starting=when_starting, number=number)
    assert subprocess.run([sys.executable, "-c", program], env=ENVIRONMENT).returncode == code
