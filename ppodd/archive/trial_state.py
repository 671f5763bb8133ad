"""What there is of a trial, read out of the names of its files: one listing tells of a whole sweep."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

_STAGE = re.compile(r"stage-(\d\d+)/stage\.json")
_OF_EVALUATION = re.compile(r"stage-(\d\d+)/(evaluations|failures)/([^/]+)\.json")


def stage_name(stage: int) -> str:
    """The name of a stage's folder, such as `stage-03`."""
    return f"stage-{stage:02d}"


class Status(StrEnum):
    """How a trial stands. A trial that failed or is going has stages to come, once its sweep is resumed."""

    COMPLETE = "complete"  # all stages are there
    STOPPED = "stopped"  # early: by a scheduler for good, by a limit until there is more of it
    FAILED = "failed"
    GOING = "going"  # or waiting, or interrupted: an archive does not tell

    @property
    def is_over(self) -> bool:
        """Whether no stage is to come as things stand."""
        return self in (Status.COMPLETE, Status.STOPPED)


@dataclass(frozen=True)
class TrialState:
    """One listing of a trial's files, `names` being relative to its folder.

    Attributes:
        stamp: another once any of the files is written again; empty where that was not asked, or cannot be told.
    """

    names: frozenset[str] = frozenset()
    stamp: str = ""

    def status(self, num_stages: int) -> Status:
        """How a trial of so many stages stands."""
        if len(self.stages) >= num_stages:
            return Status.COMPLETE
        if "stopped.json" in self.names:
            return Status.STOPPED
        return Status.FAILED if "failure.json" in self.names else Status.GOING

    @property
    def is_trial(self) -> bool:
        """Whether the folder is that of a trial: a folder with stages counts even without its config."""
        return "config.json" in self.names or bool(self.stages)

    @cached_property
    def stages(self) -> list[int]:
        """Numbers of the finished stages, from 1, in order."""
        return sorted(int(match[1]) for match in map(_STAGE.fullmatch, self.names) if match)

    def evaluations(self, stage: int) -> set[str]:
        """Tickets of a stage's evaluations."""
        return self._tickets.get((stage, "evaluations"), set())

    def given_up(self, stage: int) -> set[str]:
        """Tickets of a stage's evaluations that were given up, and not done since."""
        return self._tickets.get((stage, "failures"), set()) - self.evaluations(stage)

    @property
    def imported(self) -> bool:
        """Whether its posters were distilled elsewhere."""
        return "imported.json" in self.names

    @property
    def told_progress(self) -> bool:
        """Whether it has said how far it is."""
        return "progress.json" in self.names

    def evaluation_at(self, name: str) -> tuple[int, str, str]:
        """Stage, kind (`evaluations`, `failures`) and ticket that a file's name says; of any other file empty ones."""
        match = _OF_EVALUATION.fullmatch(name)
        return (int(match[1]), match[2], match[3]) if match else (0, "", "")

    @cached_property
    def _tickets(self) -> Mapping[tuple[int, str], set[str]]:
        found: dict[tuple[int, str], set[str]] = defaultdict(set)
        for match in map(_OF_EVALUATION.fullmatch, self.names):
            if match:
                found[int(match[1]), match[2]].add(match[3])
        return found
