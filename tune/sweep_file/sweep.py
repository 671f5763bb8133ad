"""A sweep ready to run: the configs of its trials by name, and how they are evaluated."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ppodd.archive import SCHEMA, SearchRecord, SweepRecord, SweepTrial
from ppodd.config import CIRCUMSTANCES, IPC, LATER_STAGES, DistillConfig, EvaluationConfig, in_words
from ppodd.posters import BLENDS
from tune.sweep_file.schema import SweepFile
from tune.sweep_file.space import Distribution, Section, parameters, suggested_point, varied
from tune.sweep_file.trials import fixed, is_meant_for, seeded, shape_here


@dataclass(frozen=True)
class Sweep:
    """A sweep ready to run: its trials' configs by name, and how they are evaluated.

    Attributes:
        trials: all of them; of a searched sweep those that were suggested so far, to which the driver adds.
        suggested: of a searched sweep, what the searcher said for each trial, by its own names.
        base: the values that every trial starts from.
        examples: configs that show what varies: the trials, or some drawn from a searched space.
    """

    file: SweepFile
    evaluations: tuple[EvaluationConfig, ...]
    base: dict[str, Any]
    sections: list[Section]
    examples: list[DistillConfig]
    trials: dict[str, DistillConfig]
    suggested: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The sweep's name."""
        return self.file.name

    @property
    def wanted(self) -> int:
        """How many trials there are in the end."""
        return self.file.num_samples * len(self.file.seeds) if self.file.search else len(self.trials)

    @property
    def varied(self) -> list[str]:
        """The fields in which its trials differ; where these differ in `ipc`, what it comes to is the poster's size."""
        fields = varied(self.sections) + (["seed"] if len(self.file.seeds) > 1 else [])
        size = ("poster_width", "poster_height")
        return list(dict.fromkeys(each for field in fields for each in (size if field == IPC else (field,))))

    @property
    def layouts(self) -> list[str]:
        """Which layouts were chosen for the data, in words; none where the file says them."""
        given = {*self.file.config, *varied(self.sections)}
        chosen = [c for c in self.examples if IPC in given or not is_meant_for(self.file, c.dataset, given)]
        return list(dict.fromkeys(in_words(c.geometry, shape_here(c.data)) for c in chosen))

    @property
    def repeats(self) -> list[str]:
        """Trials that repeat an earlier one: of one stage, and different only in fields that later stages depend on."""
        first: dict[str, str] = {}
        for trial, config in self.trials.items():
            honest = not BLENDS.known(config.blend).leaks  # else its stage accuracy is another
            ignored = {"name", *(LATER_STAGES if config.num_stages == 1 and honest else ())}
            first.setdefault(config.model_dump_json(exclude=ignored), trial)
        kept = set(first.values())
        return [trial for trial in self.trials if trial not in kept]

    @property
    def space(self) -> dict[str, Distribution]:
        """What a search draws from, by the names that the searcher knows."""
        return parameters(self.sections)

    def record(self) -> SweepRecord:
        """What `sweep.json` holds; equal for equal sweeps."""
        file = self.file
        chosen: dict[str, Any] = {}
        if file.search:
            space = {key: [d.kind, d.values] for key, d in self.space.items()}
            base = {key: value for key, value in self.base.items() if key not in CIRCUMSTANCES}
            when = [section.condition for section in self.sections[1:]]
            told = {"base": base, "space": space, "when": when, "seeds": list(file.seeds)}
            chosen = {"search": SearchRecord(**file.search.model_dump(), **told), "wanted": self.wanted}
        if file.scheduler:
            chosen["scheduler"] = file.scheduler.model_dump()
        if file.search or file.scheduler:
            chosen["objective"] = file.objective
        return SweepRecord(
            schema=SCHEMA,
            name=file.name,
            description=file.description,
            preset=file.preset,
            varied=tuple(self.varied),
            trials=tuple(self._listed(name) for name in self.trials),
            evaluation=tuple(evaluation.model_dump(mode="json") for evaluation in self.evaluations),
            **chosen,
        )

    def _listed(self, name: str) -> SweepTrial:
        suggested = {"suggested": self.suggested[name]} if self.file.search else {}
        return SweepTrial(name=name, config=self.trials[name].model_dump(mode="json"), **suggested)

    def adopt(self, record: SweepRecord) -> None:
        """Take over the trials of a searched sweep that `sweep.json` lists."""
        if self.file.search:
            self.trials.update(record.configs())
            self.suggested.update({trial.name: trial.suggested or {} for trial in record.trials})

    def suggestion(self, values: dict[str, Any]) -> dict[str, DistillConfig]:
        """The trials, one a seed, that a searcher's values stand for; some or all may be in `trials` already.

        Raises:
            BadInput: the values make no valid config.
        """
        return seeded(self.file, self.base, suggested_point(self.sections, fixed(self.base), values), self.trials)
