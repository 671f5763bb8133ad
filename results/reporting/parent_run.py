"""What a finished sweep's parent run shows in MLflow: the answer, the report, curves, the table, the last posters.

Of a sweep of many trials a process of its own makes it: what that takes, a process that goes on for weeks, such as the
coordinator, does not give back.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ppodd.archive import Archive
from ppodd.errors import BadInput, CorruptArchive, PpoddError
from results.tracking import schema

if TYPE_CHECKING:
    import pandas as pd
    from mlflow import MlflowClient

    from results.analysis import Answer

_CURVES = {
    "poster_ipc": "accuracy-vs-ipc.png",
    "num_stages": "accuracy-vs-num-stages.png",
    "steps": "accuracy-vs-training-steps.png",
}
_PATIENCE_S = 3600.0  # for that process: one that hangs would hold up every other sweep's sync
_MANY = 500  # trials, for which a process of its own is begun: that takes some seconds


class Summary(NamedTuple):
    """A sweep's answer: its numbers as metrics, its words as tags; `step` counts the results that it is made of."""

    metrics: dict[str, float]
    tags: dict[str, str]
    step: int


def publish(
    client: MlflowClient, tracking_uri: str, archive: Archive, sweep: str, run_id: str, stages: Mapping[str, int]
) -> None:
    """Rewrite the artifacts of the parent run, under names that stay the same; log the answer.

    `stages` has the last stage of each of the archive's trials, which is not listed again; 0 where there is none yet.

    Raises:
        PpoddError: it could not be made.
    """
    from mlflow.entities import Metric, RunTag

    make = _made_apart if len(stages) > _MANY else summarise
    with tempfile.TemporaryDirectory() as folder:
        made = make(tracking_uri, archive.url, sweep, folder, stages)
        client.log_artifacts(run_id, folder)
    at_ms = round(1000 * time.time())
    metrics = [Metric(name, value, at_ms, made.step) for name, value in made.metrics.items()]
    if made.tags:
        client.log_batch(run_id, metrics=metrics, tags=[RunTag(name, value) for name, value in made.tags.items()])


def summarise(tracking_uri: str, archive_url: str, sweep: str, folder: str, stages: Mapping[str, int]) -> Summary:
    """Write the artifacts into the folder; returns the answer."""
    from results.analysis import choose, frame_of
    from results.reporting.html_report import gather_of, page

    chosen = choose(tracking_uri, [sweep])
    rows = frame_of(chosen)
    made = gather_of(chosen, rows, tracking_uri)
    _write(Path(folder), rows, made.answers)
    Path(folder, "report.html").write_text(page(made), encoding="utf-8")
    _write_posters(Path(folder, "posters"), Archive(archive_url), sweep, stages)
    if not made.answers:
        return Summary({}, {}, len(rows))
    metrics = dict(schema.answer_metrics(list(map(_numbers, made.answers))))
    return Summary(metrics, schema.answer_tags(made.answers[0].best, _words(made.answers)), len(rows))


def _made_apart(*of: str | Mapping[str, int]) -> Summary:
    """`summarise`, in a process of its own that finds its modules where this one does.

    What it is of goes by stdin: the address of a store may hold a password, and every user sees the words of a command.
    """
    where = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-m", "results.reporting.parent_run"]
    try:
        ended = subprocess.run(
            command, env=where, capture_output=True, text=True, input=json.dumps(of), timeout=_PATIENCE_S
        )
    except subprocess.TimeoutExpired:
        raise PpoddError(f"its process was not done after {_PATIENCE_S:g} s") from None
    if ended.returncode < 0:
        raise PpoddError(f"its process was ended by signal {-ended.returncode}")
    if ended.returncode:
        raise PpoddError((ended.stderr.strip().splitlines() or [f"exit code {ended.returncode}"])[-1])
    return Summary(**json.loads(ended.stdout.splitlines()[-1]))


def _numbers(answer: Answer) -> tuple[float, dict[str, float]]:
    """The poster's IPC and what is known of the best setting of that size."""
    mean, lead = answer.accuracy, answer.lead
    numbers = {"accuracy": mean.mean, "accuracy_low": mean.low, "accuracy_high": mean.high, "seeds": mean.n}
    ahead = (
        {"lead": lead.difference, "lead_low": lead.low, "lead_high": lead.high, "p_holm": answer.p_holm} if lead else {}
    )
    return answer.poster_ipc, {**numbers, **ahead}


def _words(found: list[Answer]) -> str:
    return "\n\n".join(" ".join(answer.sentences) for answer in found)


def _write(folder: Path, rows: pd.DataFrame, found: list[Answer]) -> None:
    from results.analysis import main_protocol
    from results.reporting.curve_picture import PAGE, curve
    from results.reporting.table_files import export
    from results.reporting.tables import notes, table

    export(shown := table(rows), str(folder / "table.md"), notes(rows))
    export(shown, str(folder / "table.csv"))
    (folder / "answer.md").write_text(_words(found) + "\n", encoding="utf-8")
    own = main_protocol(rows)
    for x, name in _CURVES.items():
        if own[x].nunique() < 2:
            continue
        try:
            curve(own, str(folder / "curves" / name), x, width=PAGE)
        except BadInput:  # no trial that far
            continue


def _write_posters(folder: Path, archive: Archive, sweep: str, stages: Mapping[str, int]) -> None:
    folder.mkdir()
    for name, stage in stages.items():
        try:
            if stage:
                (folder / f"{name}.png").write_bytes(archive.trial(sweep, name).png(stage))
        except CorruptArchive:  # the sync reports it
            continue


if __name__ == "__main__":
    print(json.dumps(summarise(*json.load(sys.stdin))._asdict()))
