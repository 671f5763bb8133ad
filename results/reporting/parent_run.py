"""What a finished sweep's parent run shows in MLflow: curves, the table, each trial's last poster."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from ppodd.archive import Archive
from ppodd.errors import BadInput, CorruptArchive

if TYPE_CHECKING:
    from mlflow import MlflowClient

_CURVES = {
    "poster_ipc": "accuracy-vs-ipc.png",
    "num_stages": "accuracy-vs-num-stages.png",
    "steps": "accuracy-vs-training-steps.png",
}


def publish(client: MlflowClient, tracking_uri: str, archive: Archive, sweep: str, run_id: str) -> None:
    """Rewrite the artifacts of the parent run, under names that stay the same."""
    with tempfile.TemporaryDirectory() as folder:
        _write(Path(folder), tracking_uri, sweep)
        _write_posters(Path(folder, "posters"), archive, sweep)
        client.log_artifacts(run_id, folder)


def _write(folder: Path, tracking_uri: str, sweep: str) -> None:
    from results.analysis import answers, frame, main_protocol
    from results.reporting.curve_picture import PAGE, curve
    from results.reporting.table_files import export
    from results.reporting.tables import notes, table

    rows = frame(tracking_uri, [sweep])
    export(table(rows), str(folder / "table.md"), notes(rows))
    said = "\n\n".join(" ".join(answer.sentences) for answer in answers(rows))
    (folder / "answer.md").write_text(said + "\n", encoding="utf-8")
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
