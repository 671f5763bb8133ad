"""The data of a sweep's trials: read before anything runs where it is at hand, and the same for all of them."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

from ppodd.archive import Archive, DataRecord, SweepDataRecord, TrialArchive, TrialState
from ppodd.config import DistillConfig, EvaluationProtocol, protocols
from ppodd.datasets import Request, Spec, data_digest, known_spec, read_images
from ppodd.distillation import cpu_hours, long_time
from ppodd.errors import BadInput
from ppodd.machine import cores
from ppodd.training import ARCHITECTURES, AUGMENTATIONS, OPTIMISERS
from ppodd.words import counted
from tune.sweep_file import Sweep


def check_data(sweep: Sweep, archive: Archive, say: Callable[[str], None] | None = None) -> None:
    """Read the data of every trial, once, for them to find in the cache; say what was read, and whether they take long.

    Raises:
        BadInput: it is not on this machine (it is fetched where that is possible), it is no data set, a trial's poster
            does not fit it, or trials that the archive holds were distilled from other data.
    """
    reports, digests, counts = {}, {}, {}
    tried: set[tuple[object, ...]] = set()
    for config in sweep.examples:
        if config.data not in reports:
            images, content = read_images(config.data)
            reports[config.data], digests[config.data] = images.report, data_digest(content, config.data)
            counts[config.data] = len(images.y["train"])
        config.geometry.check(reports[config.data].spec)
        try_own(protocols(sweep.evaluations, config), reports[config.data].spec, tried)
    if say:
        say("\n".join(line for report in reports.values() for line in report.lines()))
        if note := _long(sweep, archive, {data: (reports[data].spec, counts[data]) for data in reports}):
            say(note)
    for request, trial, there in _archived(sweep, archive):
        if request in digests:
            trial.check_data(there.digest, digests[request], request.dataset)


def check_own(sweep: Sweep) -> None:
    """Try what evaluations on a cluster use of a user's own, where it is here, too, and the data's shape is known.

    The rest a trial tries before its first meta-step, where the data and the code are.

    Raises:
        BadInput: something of it fails.
    """
    tried: set[tuple[object, ...]] = set()
    for config in sweep.examples:
        if spec := None if config.classes else known_spec(config.dataset, config.image_size):
            try_own(filter(_is_here, protocols(sweep.evaluations, config)), spec, tried)


def _is_here(protocol: EvaluationProtocol) -> bool:
    """Whether all that a protocol names can be imported on this machine."""
    try:
        ARCHITECTURES.get(protocol.arch)
        OPTIMISERS.get(protocol.optim)
        for name in AUGMENTATIONS.within(protocol.strategy):
            AUGMENTATIONS.get(name)
    except BadInput:
        return False
    return True


def try_own(asked: Iterable[EvaluationProtocol], spec: Spec, tried: set[tuple[object, ...]] | None = None) -> None:
    """Try what evaluations use of a user's own, but for what was `tried`.

    What a trial uses itself it tries, too, before its first meta-step.
    """
    tried = set() if tried is None else tried
    for protocol in asked:
        used = (protocol.arch, protocol.optim, *AUGMENTATIONS.within(protocol.strategy))
        what = (*used, protocol.width, spec)
        if what not in tried and not set(used) <= {*ARCHITECTURES.own, *OPTIMISERS.own, *AUGMENTATIONS.own}:
            from ppodd.evaluation import try_protocol  # which imports torch

            try_protocol(protocol, spec)
            tried.add(what)


def _long(sweep: Sweep, archive: Archive, known: Mapping[Request, tuple[Spec, int]]) -> str:
    """That the trials which are left take hours or days on the CPU of this machine, and how to know it better."""
    resources, states = sweep.file.resources, archive.states(sweep.name)
    if resources.gpus:
        return ""
    beside = max(1, int(cores() / (resources.cpus or 1)))

    def hours(configs: Iterable[DistillConfig]) -> float:
        with contextlib.suppress(BadInput):  # a network that does not fit: its trial says so
            return sum(cpu_hours(config, *known[config.data], beside) for config in configs if config.data in known)
        return 0.0

    there = {name: states.get(name, TrialState()) for name in sweep.trials}
    names = [name for name, config in sweep.trials.items() if not there[name].status(config.num_stages).is_over]
    unsuggested = sweep.wanted - len(sweep.trials)  # by a search, whose settings are as the examples are
    total = hours(sweep.trials[name] for name in names)
    total += unsuggested * hours(sweep.examples) / len(sweep.examples) if unsuggested else 0.0
    trials, time = counted(len(names) + unsuggested, "trial"), long_time(total)
    return f"note: {trials} take {time} on this machine's CPU: --dry-run times some of it" if time else ""


class DataOfTrials:
    """What trials have read: said once of each data set, as soon as one of them has recorded it."""

    def __init__(self, sweep: Sweep, archive: Archive, say: Callable[[str], None]):
        self._sweep, self._archive, self._say = sweep, archive, say
        self._said: set[Request] = set()

    def say_new(self) -> None:
        """Say what has not been said."""
        for request, _, there in _archived(self._sweep, self._archive, self._said):
            self._said.add(request)
            self._say("\n".join(there.report.lines()))


def record_first(sweep: Sweep, archive: Archive) -> None:
    """Have what archived trials read be what those to come are compared with, wherever the data lies now."""
    for request, trial, there in _archived(sweep, archive):
        first = SweepDataRecord(digest=there.digest, trial=trial.trial, node="unknown")
        archive.first_data(sweep.name, _called(request), first)


def check_alike(trial: TrialArchive, config: DistillConfig, digest: str) -> None:
    """Raise `BadInput` where other trials of the sweep, maybe on other nodes, read other data by the same name.

    The first trial decides what the data is.
    """
    archive = Archive(trial.url.rsplit("/", 2)[0])
    mine = SweepDataRecord(digest=digest, trial=trial.trial, node=socket.gethostname())
    first = archive.first_data(trial.sweep, _called(config.data), mine)
    if first.digest != digest:
        raise BadInput(
            f"data {config.dataset} as node {mine.node} has it (digest {digest[:12]}…) is not what trial {first.trial} "
            f"read on node {first.node} ({first.digest[:12]}…): put the same data on every node, then --resume (were "
            f"that trial's the wrong ones, remove its folder and {archive.url}/{trial.sweep}/data first)"
        )


def _called(request: Request) -> str:
    """What data is known by among those of a sweep."""
    return json.dumps(request._replace(dtype=""))


def _archived(
    sweep: Sweep, archive: Archive, known: Collection[Request] = ()
) -> Iterator[tuple[Request, TrialArchive, DataRecord]]:
    """For each data set one of the archived trials that recorded what was read: opening each would take a while."""
    if {config.data for config in sweep.examples} <= set(known):
        return
    states = archive.states(sweep.name)
    names = [name for name in list(sweep.trials) if name in states and "data.json" in states[name].names]
    one_of_each = {sweep.trials[name].data: archive.trial(sweep.name, name) for name in names}
    for request in known:
        one_of_each.pop(request, None)
    for request, trial in one_of_each.items():
        if there := trial.data():
            yield request, trial, there
