"""What a finished sweep's parent run shows in MLflow: the answer, the report, curves, the table, the last posters."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from ppodd.archive import Archive
from ppodd.errors import BadInput, CorruptArchive
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


def publish(client: MlflowClient, tracking_uri: str, archive: Archive, sweep: str, run_id: str) -> None:
    """Rewrite the artifacts of the parent run, under names that stay the same."""
    from results.analysis import choose, frame_of
    from results.reporting.html_report import gather_of, page

    chosen = choose(tracking_uri, [sweep])
    rows = frame_of(chosen)
    made = gather_of(chosen, rows, tracking_uri)
    with tempfile.TemporaryDirectory() as folder:
        _write(Path(folder), rows, made.answers)
        Path(folder, "report.html").write_text(page(made), encoding="utf-8")
        _write_posters(Path(folder, "posters"), archive, sweep)
        client.log_artifacts(run_id, folder)
    _log_answer(client, run_id, made.answers, len(rows))


def _log_answer(client: MlflowClient, run_id: str, found: list[Answer], step: int) -> None:
    """The answer's numbers as metrics, its words as tags; what comes of more results is a later step."""
    from mlflow.entities import Metric, RunTag

    if not found:
        return
    at_ms = round(1000 * time.time())
    metrics = [Metric(name, value, at_ms, step) for name, value in schema.answer_metrics(list(map(_numbers, found)))]
    tags = [RunTag(name, value) for name, value in schema.answer_tags(found[0].best, _words(found)).items()]
    client.log_batch(run_id, metrics=metrics, tags=tags)


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


def _write_posters(folder: Path, archive: Archive, sweep: str) -> None:
    folder.mkdir()
    for name, state in archive.states(sweep).items():
        try:
            if state.stages:
                (folder / f"{name}.png").write_bytes(archive.trial(sweep, name).png(state.stages[-1]))
        except CorruptArchive:  # the sync reports it
            continue
