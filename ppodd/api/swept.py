"""Sweeps from Python: run one from a file, a dict or its model, and query its results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ppodd.api.runs import ARCHIVE, Run

if TYPE_CHECKING:
    import pandas as pd

    from results.analysis import Answer
    from tune.running import Outcome
    from tune.sweep_file import SweepFile


@dataclass(frozen=True)
class SweepResult:
    """The results of a sweep; a notebook shows its table.

    Attributes:
        outcome: what is unfinished, failed or stopped; `outcome.complete` where nothing is.
    """

    name: str
    archive: str
    tracking_uri: str
    outcome: Outcome

    def dataframe(self) -> pd.DataFrame:
        """Everything measured: a row per trial × stage × mode × network × training budget."""
        from results.analysis import frame

        return frame(self.tracking_uri, [self.name])

    def table(self) -> pd.DataFrame:
        """Every setting's last stage at every training budget, mean ± std over seeds."""
        from results.reporting import table

        return table(self.dataframe())

    def best(self) -> Answer | None:
        """The best setting of the largest poster, chosen by validation accuracy; `.sentences` say it in words."""
        from results.analysis import answers

        return next(iter(answers(self.dataframe())), None)

    def report(self, path: str | Path) -> Path:
        """Write the report: one HTML file."""
        from results.reporting import report

        report(self.tracking_uri, str(path), [self.name])
        return Path(path)

    @property
    def runs(self) -> list[Run]:
        """Its trials."""
        from ppodd.archive import Archive

        archive = Archive(self.archive)
        return [Run(archive.trial(self.name, name).url) for name in archive.trials(self.name)]

    def __repr__(self) -> str:
        return f"<sweep {self.name} in {self.archive}: {'complete' if self.outcome.complete else 'unfinished'}>"

    def _repr_html_(self) -> str:
        answer = self.best()
        return "".join([f"<p>{' '.join(answer.sentences)}</p>" if answer else "", self.table().to_html(index=False)])


def sweep(
    source: str | Path | Mapping[str, Any] | SweepFile,
    *,
    archive: str | Path = ARCHIVE,
    resume: bool = False,
    overrides: Sequence[str] = (),
    ray_address: str | None = None,
    tracking_uri: str | None = None,
    progress: bool = True,
) -> SweepResult:
    """Run a sweep and evaluate all its stages, as `ppodd sweep` does.

    Args:
        source: a sweep file's path, the name of one that ships with ppodd, its content as a dict, or its model.
        overrides: `"key=value"`, as `--set` takes them; of a file.
        ray_address: a running cluster (`"auto"`, `"HOST:PORT"`); without one, this machine.

    Raises:
        BadInput: the sweep is none, or the archive holds it already and it is not to `resume`.
    """
    from cluster import prepare
    from ppodd.cli.console import console
    from ppodd.cli.live_sweep import LiveSweep
    from results.tracking import default_tracking_uri
    from tune.running import run_sweep
    from tune.sweep_file import load_sweep, sweep_of

    prepare()
    planned = load_sweep(str(source), overrides) if isinstance(source, (str, Path)) else sweep_of(source)
    uri = tracking_uri or default_tracking_uri(str(archive), cluster=ray_address is not None)
    run = partial(run_sweep, planned, str(archive), uri, resume=resume, ray_address=ray_address, wait=True)
    if progress:
        out = console()
        with LiveSweep(out) as show:
            outcome = run(show=show, say=out.print)
    else:
        outcome = run()
    return SweepResult(planned.name, str(archive), uri, outcome)
