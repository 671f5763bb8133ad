"""Commands killed at random moments, ended between any two of their steps, or run against one another.

Each is a process of its own, forked from one that has imported everything, so that a kill costs no start. What comes
of it in the end is compared with a run that nobody disturbed: every file bit for bit but for times, the table out of
MLflow, what a second sync finds, and what is left over.

    python tests/support/faults.py kills steps pairs --count 200 --seed 1
"""

import argparse
import contextlib
import importlib
import json
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import torch
from flags import flags
from small_sweep import contents, differences, rows_without
from tiny import TINY

from ppodd.archive import Archive, TrialArchive
from ppodd.cli.main import main as ppodd

LONGEST_S = 300.0  # of a command here: what takes longer hangs
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
METHOD = flags({**TINY, "num_stages": 2, "train_y": True, "budgets": (2, 4)})
METHOD = [flag.replace("--train_y=True", "--train_y") for flag in METHOD]
_TIMES = r"seconds|finished|_at$|^run_id$"


class Ended(NamedTuple):
    """How a command ended (a signal is negative) and what it said."""

    code: int
    said: str


class Place:
    """A folder with an archive in it, and the commands that fill it, in their order."""

    def __init__(self, folder, posters):
        self.folder, self.posters = Path(folder), posters
        self.archive = self.folder / "archive"
        self.folder.mkdir(parents=True, exist_ok=True)

    def argv(self, task):
        there = ["--archive", str(self.archive)]
        runs = self.archive / "runs"
        return {
            "distill": ["distill", *METHOD, "--name=r", "--resume", "--no-evaluate", *there],
            "import": ["import", *map(str, self.posters), *METHOD, "--name=i", "--no-evaluate", *there],
            "evaluate": ["evaluate", f"{runs}/r", f"{runs}/i", "--mode=blend,latest", "--nets=2", "--device=cpu"],
            "sync": ["results", "sync", *there],
            "table": ["results", "table", *there, "-o", str(self.folder / "table.csv")],
            "verify": ["archive", "verify", *there],
            "repair": ["archive", "repair", *there],
        }[task]

    def start(self, task, die_at=None):
        return Process(self.argv(task), self.folder / f"{task}.log", die_at)

    def finish(self, task):
        """Run a command to its end. Raises `AssertionError` where it fails."""
        process = self.start(task)
        ended = process.wait() or process.end(signal.SIGKILL)
        assert ended.code == 0, f"{task} ended with {ended.code}: {ended.said}"
        return ended

    def files(self):
        """Every file of the archive, hidden ones too; what MLflow names at random is not told apart."""
        found = (path.relative_to(self.archive).as_posix() for path in self.archive.rglob("*") if path.is_file())
        return sorted(re.sub(r"[0-9a-f]{32}", "*", name) for name in found)

    def held(self):
        return contents(Archive(self.archive), "runs")

    def table(self):
        """The rows out of MLflow, but for times."""
        self.finish("table")
        return rows_without(_TIMES, self.folder / "table.csv")


TASKS = ("distill", "import", "evaluate", "sync")


class Process:
    """A command in a process of its own. With `die_at` it kills itself at that step (`Steps`)."""

    def __init__(self, argv, log, die_at=None):
        self.log, self.began = Path(log), time.monotonic()
        sys.stdout.flush()
        self.pid = os.fork()
        if self.pid == 0:
            _carry_out(argv, log, die_at)

    def wait(self, seconds=LONGEST_S):
        """Its end; `None` if it is not over after so long."""
        end = time.monotonic() + seconds
        while True:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                return Ended(os.waitstatus_to_exitcode(status), self.log.read_text())
            if time.monotonic() > end:
                return None
            time.sleep(0.005)

    def end(self, by):
        """Send it a signal; how it ended by it."""
        os.kill(self.pid, by)
        ended = self.wait(30)
        if ended is None:
            os.kill(self.pid, signal.SIGKILL)
            self.wait()
            raise AssertionError(f"{signal.Signals(by).name} did not end it within 30 s")
        return ended


def _carry_out(argv, log, die_at):
    """Be the command, and end with its code."""
    code = 99
    try:
        out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(out, 1)
        os.dup2(out, 2)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        with Steps(f"{log}.steps", die_at) if die_at is not None else contextlib.nullcontext():
            code = ppodd(argv)
        Path(f"{log}.modules").write_text(json.dumps(sorted(sys.modules)))
    except SystemExit as leave:
        code = leave.code or 0
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


class Steps:
    """Notes every step of this process that changes a file or the store, and kills it at the step `die_at`.

    A file is written half, then whole, then renamed; a store changes by statements and commits.
    """

    def __init__(self, notes, die_at):
        self.notes, self.die_at, self.labels = Path(notes), die_at, []

    def step(self, label):
        if len(self.labels) == self.die_at:
            os.kill(os.getpid(), signal.SIGKILL)
        self.labels.append(label)

    def __enter__(self):
        from sqlalchemy import event
        from sqlalchemy.engine import Engine

        write = Path.write_bytes

        def half_then_whole(path, data):
            write(path, data[: len(data) // 2])
            self.step(f"half of {_short(path)}")
            return write(path, data)

        Path.write_bytes = half_then_whole
        for name in ("replace", "link", "unlink", "remove"):
            setattr(os, name, self._around(name, getattr(os, name)))
        event.listen(Engine, "before_cursor_execute", lambda c, cursor, text, *_: self.step(text.split(None, 2)[0]))
        event.listen(Engine, "commit", lambda c: self.step("commit"))
        return self

    def _around(self, name, call):
        def called(*args, **kwargs):
            self.step(f"before {name} {_short(args[-1])}")
            done = call(*args, **kwargs)
            self.step(f"after {name} {_short(args[-1])}")
            return done

        return called

    def __exit__(self, *exception):
        self.notes.open("w").write(json.dumps(self.labels))


def _short(path):
    return re.sub(r"\.[0-9a-f]{8}-\d+\.\w{8}$", "", "/".join(Path(str(path)).parts[-2:]))


class Campaign:
    """Faults injected, and what was lost by them: by kind."""

    def __init__(self, folder, seed):
        torch.set_num_threads(1)
        self.folder, self.dice = Path(folder), random.Random(seed)
        self.injected, self.losses, self.killed = Counter(), [], 0
        os.environ["PPODD_CACHE"] = str(self.folder / "cache")
        self.before, self.seconds = {}, {}
        first = Place(self.folder / "first", [])
        for task in (*TASKS, "table", "verify"):
            if task == "import":
                self._save_posters(first)
            first.finish(task)
            self._preload(first.folder / f"{task}.log.modules")
        self.undisturbed = Place(self.folder / "undisturbed", first.posters)
        for task in TASKS:
            self.before[task] = self._snapshot(task)
            began = time.monotonic()
            self.undisturbed.finish(task)
            self.seconds[task] = time.monotonic() - began
        self.table, self.held = self.undisturbed.table(), self.undisturbed.held()
        self.files = self.undisturbed.files()

    @staticmethod
    def _preload(names):
        """Import what a command has imported, so that the next one finds it there."""
        for name in json.loads(names.read_text()):
            with contextlib.suppress(Exception):  # what is imported in another way
                importlib.import_module(name)

    def _save_posters(self, place):
        trial = TrialArchive(place.archive / "runs" / "r")
        for stage in trial.stages():
            held = trial.poster(stage)
            for kind, tensor in (("poster", held.poster), ("label", held.labels)):
                path = self.folder / f"podd{stage}_{kind}.pt"
                torch.save(torch.from_numpy(tensor)[None], path)
                place.posters.append(path)

    def _snapshot(self, task):
        to = self.folder / "before" / task
        if self.undisturbed.archive.exists():
            shutil.copytree(self.undisturbed.archive, to)
        return to

    def place(self, name, before=None):
        """A new place, with what there was before a task."""
        place = Place(self.folder / name, self.undisturbed.posters)
        if before is not None and self.before[before].exists():
            shutil.copytree(self.before[before], place.archive)
        return place

    def check(self, place, what):
        """Count what was lost, doubled, changed or left over in the end."""
        lost = []
        again = place.finish("sync").said
        if "0 stages and 0 evaluations read anew" not in again:
            lost.append(f"a second sync found something: {again.strip()}")
        if place.table() != self.table:
            lost.append("MLflow shows another table")
        if place.start("verify").wait().code:
            lost.append("archive verify finds damage")
        self._count(place, what, [*lost, *self._wrong(place, self.held, self.files)])

    def _count(self, place, what, lost):
        lost = list(lost)
        self.losses += [f"{what}: {one}" for one in lost]
        for one in lost:
            print(f"LOST after {what}: {one}", flush=True)
        if not lost:
            shutil.rmtree(place.folder)

    def _check_files(self, place, before, what):
        """Whether the archive is what it was before a task, in a run that nobody disturbed."""
        undisturbed = Place(self.folder / "before" / before, [])
        undisturbed.archive = self.before[before]
        self._count(place, what, self._wrong(place, undisturbed.held(), undisturbed.files()))

    def _wrong(self, place, held, files):
        if wrong := differences(place.held(), held):
            yield f"{len(wrong)} files differ: {sorted(wrong)[:3]}"
        if extra := set(place.files()) ^ set(files):
            yield f"left over or missing: {sorted(extra)[:3]}"

    # What is injected

    def kills(self, count):
        """Kill commands at random moments until so many were killed; whatever was killed is begun again."""
        rounds, self.killed = 0, 0
        while self.killed < count:
            rounds += 1
            place = self.place(f"round-{rounds}")
            for task in TASKS:
                for _ in range(self.dice.randint(1, 4) if task == "sync" else self.dice.randint(4, 12)):
                    if self.killed >= count or self._killed(place, task) is None:
                        break
                self._finished(place, task, f"round {rounds}")
            self.check(place, f"round {rounds}")

    def _killed(self, place, task):
        """Kill it at a random moment; `None` where it was done before."""
        moment, by = self.dice.uniform(0, 1.1 * self.seconds[task]), self.dice.choice(SIGNALS)
        process = place.start(task)
        if (ended := process.wait(moment)) is not None:
            assert ended.code == 0, f"{task} ended with {ended.code}: {ended.said}"
            return None
        ended = process.end(by)
        name = by.name
        self.injected[f"{task}, {name}"] += 1
        self.killed += 1
        print(f"{self.killed}: {task}: {name} after {moment:.3f} s → {ended.code}", flush=True)
        return ended

    def _finished(self, place, task, what):
        try:
            place.finish(task)
        except AssertionError as error:
            self.losses.append(f"{what}: {error}")
            print(f"LOST after {what}: {error}", flush=True)

    def steps(self, sample, only=""):
        """End each command at a `sample` of its steps (0: all but those of statements), then begin it again.

        `only` those whose label holds a text, if one is given.
        """
        for task in TASKS:
            labels = self._labels(task)
            own = [at for at, label in enumerate(labels) if label.split()[0] in ("half", "before", "after", "commit")]
            chosen = own
            if sample:  # half of them of files and commits, half of statements where there are any
                others = sorted({*range(len(labels))} - {*own})
                few = self.dice.sample(others, min(sample // 2, len(others)))
                chosen = sorted([*few, *self.dice.sample(own, min(sample - len(few), len(own)))])
            chosen = [at for at in (own if only else chosen) if only in labels[at]]
            print(f"{task}: {len(labels)} steps, {len(own)} of files and commits, ended at {len(chosen)}", flush=True)
            for at in chosen:
                what = f"{task} ended at step {at} ({labels[at]})"
                place = self.place(f"{task}-{at}", task)
                ended = place.start(task, die_at=at).wait()
                if ended is None or ended.code != -signal.SIGKILL:
                    self.losses.append(f"{what}: it went on ({ended})")
                    continue
                self.injected[f"{task}, between two steps"] += 1
                self._finished(place, task, what)
                if task == TASKS[-1]:
                    self.check(place, what)
                else:
                    self._check_files(place, TASKS[TASKS.index(task) + 1], what)

    def _labels(self, task):
        place = self.place(f"{task}-steps", task)
        ended = place.start(task, die_at=-1).wait()
        assert ended.code == 0, ended.said
        return json.loads((place.folder / f"{task}.log.steps").read_text())

    def pairs(self, most=0):
        """Any two commands at once (or `most` pairs of them), then all of them, on an archive that lacks a stage."""
        every = [*TASKS, "verify", "repair"]
        pairs = [(a, b) for i, a in enumerate(every) for b in every[i:] if {a, b} - {"verify"}]
        pairs = self.dice.sample(pairs, most) if most else pairs
        for number, together in enumerate([*pairs, tuple(every)]):
            place = self.place(f"pair-{number}", "evaluate")
            shutil.rmtree(place.archive / "runs/r/stage-02")  # to be distilled yet
            started = []
            for task in together:
                log = place.folder / f"{task}-{len(started)}.log"
                started.append((task, Process(place.argv(task), log)))
                time.sleep(self.dice.uniform(0, 0.2))
            what = " beside ".join(together)
            for task, process in started:
                ended = process.wait()
                if ended is None or ended.code not in (0, 1, 2) or "Traceback" in ended.said:
                    self.losses.append(f"{what}: {task} ended so: {ended}")
                    print(f"LOST: {self.losses[-1]}", flush=True)
                self.injected["two at once" if len(together) == 2 else "all at once"] += 1
            print(f"{what}: done", flush=True)
            for task in TASKS:
                self._finished(place, task, what)
            self.check(place, what)

    def say(self):
        """The injections by kind and the losses; the exit code."""
        for kind, times in sorted(self.injected.items()):
            print(f"{kind}: {times}")
        print(f"injected {sum(self.injected.values())}, lost {len(self.losses)}", flush=True)
        return 1 if self.losses else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="+", choices=("kills", "steps", "pairs"))
    parser.add_argument("--count", type=int, default=20, help="kills")
    parser.add_argument("--sample", type=int, default=0, help="steps of each command (0: all but statements)")
    parser.add_argument("--only", default="", help="steps whose label holds this text, such as posters/")
    parser.add_argument("--most", type=int, default=0, help="pairs (0: all)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", help="to work in, kept (default: a temporary one)")
    args = parser.parse_args()
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    print(f"seed {args.seed}", flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        campaign = Campaign(args.folder or temporary, args.seed)
        print("undisturbed: " + ", ".join(f"{task} {s:.2f} s" for task, s in campaign.seconds.items()), flush=True)
        for what in args.what:
            {"kills": lambda: campaign.kills(args.count), "steps": lambda: campaign.steps(args.sample, args.only),
             "pairs": lambda: campaign.pairs(args.most)}[what]()  # fmt: skip
        return campaign.say()


if __name__ == "__main__":
    sys.exit(main())
