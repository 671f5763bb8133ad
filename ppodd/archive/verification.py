"""What is damaged in an archive, file by file, and how each file is mended.

A file is repaired only if the result is bit-identical, here or on resume (after it was removed). A file whose repair
would give other bits is left, unless that is asked for (`redo`); one that cannot be recovered is reported as lost.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property, partial

from ppodd.archive.records import ImportRecord, Record, StageRecord, StopRecord, SweepDataRecord, SweepRecord, parse
from ppodd.archive.sweeps import DRIVER, Archive
from ppodd.archive.tickets import ticket
from ppodd.archive.trial_archive import EVALUATOR, RESUME, WRITER, TrialArchive
from ppodd.archive.trial_state import TrialState, stage_name
from ppodd.config import RUNS, DistillConfig, difference
from ppodd.errors import BadInput, CorruptArchive, LaterVersion, one_line
from ppodd.files import Folder, only_writer, read_mark

_AT_ONCE = 8  # trials that are read: on S3 that is a matter of waiting
_COPY = "put it back from a copy"
_LATER = "it is left as it is"
_EVALUATED = "it is evaluated again by `ppodd sweep … --resume`, `ppodd evaluators start` or `ppodd evaluate`"
_RESUMED = "`--resume`"

DrawPicture = Callable[[TrialArchive, int], bytes]
"""Draws the picture of an archived stage's poster again."""


@dataclass(frozen=True)
class Damage:
    """A damaged file, or one that was left over.

    Attributes:
        folder, name: where it is.
        what: is wrong with it, in one line.
        then: what restores it, or what the user can do.
        mend: does what is to be done here; `None` where nothing can be.
    """

    folder: Folder
    name: str
    what: str
    then: str
    mend: Callable[[], None] | None = None

    @property
    def path(self) -> str:
        """Where the damaged file is."""
        return self.folder.at(self.name)


def damage(archive: Archive, sweep: str, *, redo: bool = False, picture: DrawPicture | None = None) -> list[Damage]:
    """All that is damaged of a sweep, or of the runs that belong to none.

    Args:
        redo: mend also what only could come out otherwise, such as stages that a GPU distilled.
        picture: draws pictures again.
    """
    found, record = _of_sweep(archive, sweep)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        inspections = [trial.damage for trial in _inspections(archive, sweep, record, redo, picture)]
        of_trials = pool.map(lambda damage_of: list(damage_of()), inspections)
        return [*found, *(one for of_trial in of_trials for one in of_trial), *_left_over(archive.folder / sweep)]


def mended(archive: Archive, sweep: str, record: SweepRecord | None) -> list[str]:
    """Mend what would keep a sweep's stages from being evaluated: configs, and evaluations that cannot be read.

    Who resumes a sweep calls this, for a look at the names of files does not see it. Returns what was mended, a line
    each.
    """

    def of_trial(trial: _TrialInspection) -> list[str]:
        lines = []
        for one in (*trial.config(), *trial.evaluations()):
            if one.mend:
                one.mend()
                lines.append(f"{one.what}; {one.then}")
        return lines

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return [line for lines in pool.map(of_trial, _inspections(archive, sweep, record)) for line in lines]


def repair(archive: Archive, sweep: str, found: list[Damage]) -> Iterator[tuple[Damage, str]]:
    """Mend what can be of this damage; yields each with why it was not mended (nothing where it was).

    No driver of the sweep, and no command at a run, may be at work meanwhile: what is theirs is left.
    """
    for folder, mark, ours in _by_writer(archive, sweep, found):
        with contextlib.ExitStack() as stack:
            busy = ""
            try:
                if any(one.mend for one in ours):
                    at_work = f"another process is at work in {folder.url}"
                    stack.enter_context(only_writer(folder, mark, at_work, "repair it"))
            except (BadInput, CorruptArchive) as error:
                busy = one_line(error)
            for one in ours:
                yield one, busy or _mend(one)


def _by_writer(archive: Archive, sweep: str, found: list[Damage]) -> Iterator[tuple[Folder, str, list[Damage]]]:
    """The damage, and the folder and mark of who else may write there: a sweep's driver, or a command at a run."""
    if sweep != RUNS:
        yield archive.folder / sweep, DRIVER, found
        return
    runs: dict[str, list[Damage]] = {}
    for one in found:
        runs.setdefault(one.path.removeprefix(f"{archive.url}/{sweep}/").split("/")[0], []).append(one)
    for run, ours in runs.items():
        yield archive.folder / f"{sweep}/{run}", WRITER, ours


def _mend(one: Damage) -> str:
    if one.mend is None:
        return one.then
    try:
        one.mend()
    except (BadInput, CorruptArchive) as error:
        return one_line(error)
    return ""


def _inspections(
    archive: Archive, sweep: str, record: SweepRecord | None, redo: bool = False, picture: DrawPicture | None = None
) -> list[_TrialInspection]:
    listed = {trial.name: partial(record.config, trial) for trial in record.trials} if record else {}
    states = archive.states(sweep)
    return [
        _TrialInspection(archive.trial(sweep, name), states[name], listed.get(name), redo, picture) for name in states
    ]


def _of_sweep(archive: Archive, sweep: str) -> tuple[list[Damage], SweepRecord | None]:
    """What is damaged of the files that a sweep has once, and its record."""
    folder, found, record = archive.folder / sweep, [], None
    again = f"{_COPY}, or remove it: `ppodd sweep FILE --resume` writes it anew, without what a search had suggested"
    try:
        record = archive.sweep(sweep)
    except CorruptArchive as error:
        found.append(_lost(folder, "sweep.json", error, again))
    for name in (folder / "protocols").names():
        try:
            archive.added_evaluation(sweep, name)
        except CorruptArchive as error:
            asked = "ask for it again: `ppodd evaluators start --protocol …`"
            found.append(_removable(folder, f"protocols/{name}", error, asked))
    for name in (folder / "data").names():
        try:
            parse(SweepDataRecord, folder.read(f"data/{name}"), folder.at(f"data/{name}"))
        except CorruptArchive as error:
            found.append(_removable(folder, f"data/{name}", error, "the next trial writes it anew"))
    try:
        archive.hours(sweep)
    except CorruptArchive as error:
        found.append(_removable(folder, "hours.json", error, "hours are counted from none again"))
    return [*found, *_marks(folder, DRIVER)], record


def _marks(folder: Folder, *names: str) -> Iterator[Damage]:
    for name in names:
        try:
            read_mark(folder, name)
        except CorruptArchive as error:
            what, _, then = one_line(error).rpartition(": ")
            yield Damage(folder, name, what, then)


def _left_over(folder: Folder) -> Iterator[Damage]:
    for path in folder.stale_temporaries():
        name = path.removeprefix(f"{folder.url}/")
        yield _removable(folder, name, f"{path} is left over from a killed process", "")


def _lost(folder: Folder, name: str, error: CorruptArchive, then: str = _COPY) -> Damage:
    return Damage(folder, name, one_line(error), _LATER if isinstance(error, LaterVersion) else then)


def _removable(folder: Folder, name: str, error: CorruptArchive | str, then: str) -> Damage:
    """Damage that is mended by removing the file; one of a later version is left."""
    if isinstance(error, LaterVersion):
        return _lost(folder, name, error)
    what = error if isinstance(error, str) else one_line(error)
    return Damage(folder, name, what, then, lambda: folder.remove(name))


def _remove(folder: Folder, *names: str) -> None:
    for name in names:
        folder.remove(name)


@dataclass
class _TrialInspection:
    """Inspects one trial; `listed` reads its config as its sweep lists it."""

    trial: TrialArchive
    state: TrialState
    listed: Callable[[], DistillConfig] | None
    redo: bool = False
    picture: DrawPicture | None = None
    unreadable: dict[int, CorruptArchive] = field(default_factory=dict)  # stages

    @property
    def folder(self) -> Folder:
        return self.trial.folder

    def damage(self) -> Iterator[Damage]:
        yield from self.config()
        yield from self.stages()
        yield from self.checkpoint()
        yield from self.evaluations()
        yield from self.notes()
        yield from _marks(self.folder, WRITER, EVALUATOR)

    @cached_property
    def records(self) -> dict[int, StageRecord]:
        """Those that can be read; the others are `unreadable`."""
        found = {}
        for stage in self.state.stages:
            try:
                found[stage] = self.trial.stage(stage)
            except CorruptArchive as error:
                self.unreadable[stage] = error
        return found

    # Config

    def config(self) -> Iterator[Damage]:
        try:
            held = self.trial.config()
        except CorruptArchive as error:
            again = self._listed_config()
            if again is None or isinstance(error, LaterVersion):
                yield _lost(self.folder, "config.json", error, f"{_COPY}: no sweep lists this trial")
                return
            what = one_line(error).split(": where its sweep")[0]
            yield Damage(self.folder, "config.json", what, _LISTED, lambda: self.trial.write_config(again))
            return
        listed = self._listed_config()
        if listed and (name := difference(held, listed)):
            mine, theirs = getattr(held, name), getattr(listed, name)
            what = f"{self.folder.at('config.json')} is another trial's: {name}={mine!r}, its sweep lists {theirs!r}"
            yield Damage(self.folder, "config.json", what, _LISTED, lambda: self.trial.write_config(listed))

    def _listed_config(self) -> DistillConfig | None:
        if self.listed is None:
            return None
        try:
            return self.listed()
        except CorruptArchive:
            return None

    # Stages

    def stages(self) -> Iterator[Damage]:
        lost: dict[int, tuple[str, str]] = {}
        for stage in range(1, max(self.state.stages, default=0) + 1):
            below = stage_name(stage)
            try:
                if stage in self.records:
                    name = f"{below}/poster.safetensors"
                    self.trial.poster(stage)
                    yield from self._picture(stage)
                    continue
                name = f"{below}/stage.json"
                raise self.unreadable.get(stage) or CorruptArchive(f"{self.folder.at(name)} is missing")
            except LaterVersion as error:
                yield _lost(self.folder, name, error)
            except CorruptArchive as error:
                lost[stage] = name, one_line(error)
        if lost:
            then, mend = self._stages_anew(sorted(lost))
            for name, what in lost.values():
                yield Damage(self.folder, name, what, then, mend)

    def _picture(self, stage: int) -> Iterator[Damage]:
        name = f"{stage_name(stage)}/poster.png"
        try:
            self.trial.png(stage)
        except CorruptArchive as error:
            draw = self.picture
            again = (lambda: self.trial.write_picture(stage, draw(self.trial, stage))) if draw else None
            yield Damage(self.folder, name, one_line(error), "it is drawn anew, where the data set is here", again)

    def _stages_anew(self, lost: Sequence[int]) -> tuple[str, Callable[[], None] | None]:
        """How lost stages and those that follow from them are restored, and what has to be removed for that."""
        first, last = lost[0], max(self.state.stages)
        which = f"stage {first}" if first == last else f"stages {first} to {last}"
        if self.state.imported:
            alone = [name for stage in lost for name in self._files(stage)]
            return "the same `ppodd import` archives it again", lambda: _remove(self.folder, *alone)
        at = self._checkpoint_stage
        files = [name for stage in range(first, last + 1) for name in self._files(stage)]
        files += [RESUME] if at is None or at > first else []
        if self._on_cpu or (at == first and first == last):
            return f"{_RESUMED} makes {which} anew, to the same bits", lambda: _remove(self.folder, *files)
        if not self.redo:
            return (
                f"{_COPY}: only a CPU comes to the same posters again; `--redo` has {which} distilled otherwise",
                None,
            )
        begin = first if at == first else 1
        gone = [name for name in self.state.names if name.startswith(tuple(map(stage_name, range(begin, last + 1))))]
        gone += [RESUME] if at != first else []
        return f"{_RESUMED} distils the stages from {begin} on anew: they come out otherwise", lambda: _remove(
            self.folder, *gone
        )

    def _files(self, stage: int) -> list[str]:
        """A stage's files, its record first: without that it is none. Evaluations stay: they name their posters."""
        names = ("stage.json", "poster.safetensors", "poster.png", "candidate.json")
        return [f"{stage_name(stage)}/{name}" for name in names]

    @property
    def _on_cpu(self) -> bool:
        return all(record.device == "cpu" for record in self.records.values())

    @property
    def _checkpoint_stage(self) -> int | None:
        """The stage that the resume checkpoint is of, if it can be read."""
        try:
            held = self.trial.resume()
        except CorruptArchive:
            return None
        return held[1].stage if held else None

    def checkpoint(self) -> Iterator[Damage]:
        try:
            self.trial.resume()
        except CorruptArchive as error:
            done = self.state.stages
            if self._on_cpu or not done:
                again = f"{_RESUMED}, if it is unfinished, trains again and compares with the archived posters"
                yield _removable(self.folder, RESUME, error, again)
            elif self.redo:
                _, mend = self._stages_anew([1])
                yield Damage(self.folder, RESUME, one_line(error), f"{_RESUMED} distils all stages otherwise", mend)
            else:
                then = f"{_COPY}, if the trial is unfinished; `--redo` has all of its stages distilled otherwise"
                yield _lost(self.folder, RESUME, error, then)

    # Evaluations

    def evaluations(self) -> Iterator[Damage]:
        records = self.records
        for name in sorted(self.state.names):
            stage, kind, of = self.state.evaluation_at(name)
            if kind == "evaluations":
                try:
                    held = self.trial.evaluation(stage, of)
                except CorruptArchive as error:
                    yield _removable(self.folder, name, error, _EVALUATED)
                    continue
                past = [records[s] for s in range(1, stage + 1) if s in records]
                if len(past) < stage:
                    continue  # what it is of cannot be told
                digests = [record.digests.poster for record in past]
                weights = past[-1].weights(held.protocol.mode)
                is_named = ticket(held.protocol, digests, weights, past[-1].data.digest)
                if held.posters != tuple(digests) or of != is_named:
                    what = f"{self.folder.at(name)} is of other posters than the archive has"
                    yield _removable(self.folder, name, what, "what the archive has is evaluated by itself")
            elif kind == "failures":
                try:
                    self.trial.evaluation_failure(stage, of)
                except CorruptArchive as error:
                    yield _removable(self.folder, name, error, _EVALUATED)

    # What else is said of a trial

    def notes(self) -> Iterator[Damage]:
        for name, read in (("progress.json", self.trial.progress), ("failure.json", self.trial.failure)):
            try:
                read()
            except CorruptArchive as error:
                yield _removable(self.folder, name, error, "it only says how the trial stood")
        yield from self._data()
        stop = StopRecord(
            scheduler="unknown", stage=len(self.state.stages), why="not known: its record was damaged", stopped_at=0
        )
        yield from self._kept("stopped.json", stop)
        yield from self._kept("imported.json", ImportRecord(posters=()))
        for name in sorted(self.state.names):
            if name.endswith("/candidate.json"):
                yield from self._candidate(name)

    def _data(self) -> Iterator[Damage]:
        try:
            record = self.trial.data()
            if record:
                self.trial.whitening(record)
        except LaterVersion as error:
            yield _lost(self.folder, "data.json", error)
        except CorruptArchive as error:
            yield _removable(self.folder, "data.json", error, f"{_RESUMED} reads the data and records it anew")

    def _kept(self, name: str, instead: Record) -> Iterator[Damage]:
        """A record whose mere presence is meaningful: what it said is lost, its presence is kept."""
        if name in self.state.names:
            try:
                parse(type(instead), self.folder.read(name), self.folder.at(name))
            except LaterVersion as error:
                yield _lost(self.folder, name, error)
            except CorruptArchive as error:
                then = "it still counts; what it said is lost"
                yield Damage(self.folder, name, one_line(error), then, lambda: self.trial.write_record(name, instead))

    def _candidate(self, name: str) -> Iterator[Damage]:
        stage = int(name.split("/")[0].removeprefix("stage-"))
        if stage in self.state.stages:
            yield _removable(self.folder, name, f"{self.folder.at(name)} is left over", "the stage is archived")
            return
        try:
            self.trial.candidate(stage)
        except CorruptArchive as error:
            yield _removable(self.folder, name, error, f"{_RESUMED} lays it down again")


_LISTED = "it is written as its sweep lists the trial"
