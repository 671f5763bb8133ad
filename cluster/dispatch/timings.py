"""How long things take or may take, in one place: what the dispatcher, the evaluators and their clients wait for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Pace:
    """How often a task is done: with `pause_s` seconds in between; a slow one less often, but every `at_most_s`."""

    pause_s: float
    at_most_s: float
    share: float = 0.2  # of the time that the task may take

    def rest_s(self, took_s: float) -> float:
        """How long to rest after the task took so long."""
        return max(self.pause_s, min(self.at_most_s, took_s / self.share))


@dataclass(frozen=True)
class ServiceTimings:
    """Seconds, all of them but `max_attempts`.

    Attributes:
        look: at the archives that are served.
        scale: starting and stopping evaluators.
        sync: of MLflow.
        nodes: asking which nodes live.
        memory: giving back to the system what was freed.
        lease_s: without a heartbeat, after which a lease expires.
        heartbeat_s: between two heartbeats of an evaluator.
        rate_s: over which evaluations a minute are counted.
        archive_patience_s: for an archive that does not answer; the others wait meanwhile.
        away_s: delay before an unreachable archive is retried.
        settled_s: a sweep that is over is looked at, and synced, this often.
        silent_s: a trial that waits asks far more often; after so long it is gone.
        listed_s: Ray may not list at once what was started.
        probe_s: between two questions of a driver whether its Ray is there.
        lost_s: without an answer to them, after which it is lost.
        max_attempts: failures of a work item after which it is given up.
        start_s: for the coordinator's process, on a cluster that is busy or still to get its head's workers.
        poll_s: between two looks of a client that waits for the coordinator.
        replace_s: for another job that replaces the coordinator.
        end_s, end_poll_s: for evaluators that are ended, and between two looks whether they are gone.
        shown_s: between two questions of a sweep's live view what the evaluators are at, and for the answer.
        stale_s: until such an answer is shown no longer, where no other comes.
        idle_s: between an evaluator's questions for work.
        failing_s: the same at most, after work that failed: one that can do nothing does not race through it all.
        measure_poll_s, measure_poll_at_most_s: between a trial's questions for its accuracy, at first and later.
        measure_patience_s: without an evaluator that lives, after which a trial measures by itself.
        node_s: for a node's answer whether it sees the archive: a worker's start and first import, where it is busy.
        answer_s: for an answer of the coordinator: a look at a large archive, a first sync of a large store.
        brief_answer_s: for one that asks neither archive nor store; the evaluators and trials then ask again.
    """

    look: Pace = Pace(1.0, 10.0)
    scale: Pace = Pace(1.0, 1.0)
    sync: Pace = Pace(2.0, 60.0)
    nodes: Pace = Pace(5.0, 5.0)
    memory: Pace = Pace(30.0, 30.0)
    lease_s: float = 60.0
    heartbeat_s: float = 5.0
    rate_s: float = 600.0
    archive_patience_s: float = 5.0
    away_s: float = 30.0
    settled_s: float = 60.0
    silent_s: float = 30.0
    listed_s: float = 10.0
    probe_s: float = 1.0
    lost_s: float = 20.0
    max_attempts: int = 3
    start_s: float = 300.0
    poll_s: float = 0.5
    replace_s: float = 120.0
    end_s: float = 30.0
    end_poll_s: float = 0.05
    shown_s: float = 2.0
    stale_s: float = 10.0
    idle_s: float = 0.5
    failing_s: float = 30.0
    measure_poll_s: float = 0.2
    measure_poll_at_most_s: float = 2.0
    measure_patience_s: float = 60.0
    node_s: float = 120.0
    answer_s: float = 3600.0
    brief_answer_s: float = 60.0

    @property
    def recovery_s(self) -> float:
        """After a restart no lease is given before each evaluator has had time for a heartbeat: its work is leased."""
        return 1.2 * self.heartbeat_s
