"""How archived posters are evaluated: what a user asks for, and the protocols that follow from it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field

from ppodd.config.distillation import DistillConfig
from ppodd.config.fields import Architecture, Augmentation, NonNegative, Optimiser, Positive, PositiveFloat, Steps
from ppodd.config.validation import Config, WrittenConfig
from ppodd.datasets import known_spec
from ppodd.training import ARCHITECTURES, check_architecture


class EvaluationConfig(WrittenConfig):
    """How archived posters are judged: fresh networks of each `arch`, trained in each `mode` on each kind of `labels`.

    Fields left empty (`None`) take the value of the distillation under test.
    """

    listed = "ppodd evaluate --help"

    arch: Annotated[tuple[Architecture, ...], Field(min_length=1)] | None = Field(None, description="networks to train")
    mode: Annotated[tuple[Literal["blend", "latest"], ...], Field(min_length=1)] = Field(
        ("blend",), description="train on the blend of all posters, or on the latest alone"
    )
    labels: Annotated[tuple[Literal["soft", "hard"], ...], Field(min_length=1)] = Field(
        ("soft",), description="labels to train on: the poster's own, or of each patch the likeliest class alone"
    )
    budgets: Annotated[Steps, Field(min_length=1)] | None = Field(None, description="training steps read")
    nets: Positive | None = Field(None, description="networks of each kind")
    eval_seed: NonNegative = Field(0, description="seed of the evaluation")
    width: Positive | None = Field(None, description="channels of the network's first block")
    batch: Positive | None = Field(None, description="patches in a training step")
    optim: Optimiser | None = Field(None, description="optimiser")
    inner_lr: PositiveFloat | None = Field(None, description="learning rate")
    decay: bool | None = Field(None, description="cosine decay of the learning rate")
    strategy: Augmentation | None = Field(None, description="augmentation of patches")
    comp_aug: bool | None = Field(None, description="compose the augmentations")

    def protocols(self, config: DistillConfig) -> list[EvaluationProtocol]:
        """One fully resolved protocol for each architecture, mode and kind of labels, to judge posters of `config`."""

        def own(value: Any, inherited: Any) -> Any:
            return inherited if value is None else value

        return [
            EvaluationProtocol(
                arch=arch,
                mode=mode,
                budgets=own(self.budgets, config.budgets),
                nets=own(self.nets, config.num_train_eval),
                seed=self.eval_seed,
                width=own(self.width, config.width),
                batch=own(self.batch, config.distill_batch_size),
                optim=own(self.optim, config.inner_optim),
                inner_lr=own(self.inner_lr, None if config.train_lr else config.inner_lr),
                decay=own(self.decay, config.decay),
                strategy=own(self.strategy, config.syn_strategy),
                comp_aug=own(self.comp_aug, config.comp_aug),
                labels=labels,
                source=ARCHITECTURES.source(arch),
            )
            for arch in own(self.arch, (config.arch,))
            for mode in self.mode
            for labels in self.labels
        ]


def check_evaluation(evaluation: EvaluationConfig, dataset: str, image_size: int) -> None:
    """Raise `BadInput` where a network that it names does not fit the data set's images, as far as these are known.

    That of the distillation is checked with its config.
    """
    if spec := known_spec(dataset, image_size):
        for arch in evaluation.arch or ():
            check_architecture(arch, spec)


class EvaluationProtocol(Config):
    """Everything an evaluation depends on but the posters: one architecture, one mode.

    Its digest names evaluations and metrics for good. A field that is added must have a default, which says how
    evaluations were done before; the first version's have none. Names are checked where a config gives them, not here:
    an archive may hold evaluations of networks that are not installed, or by settings of a later version.
    """

    model_config = pydantic.ConfigDict(extra="allow")

    arch: str
    mode: str
    budgets: Steps
    nets: Positive
    seed: NonNegative
    width: Positive
    batch: Positive
    optim: str
    inner_lr: PositiveFloat | None  # None: the learned one of the latest poster
    decay: bool
    strategy: str
    comp_aug: bool
    labels: str = "soft"
    source: str = ""  # a digest of a user's own network as it is written, so that one that is edited is judged anew

    def canonical(self) -> dict[str, Any]:
        """What digests are made of: a field at its default is absent, so adding one changes no digest."""
        return self.model_dump(mode="json", exclude_defaults=True)


def protocols(evaluations: Sequence[EvaluationConfig], config: DistillConfig) -> list[EvaluationProtocol]:
    """Every protocol that these ask for to judge posters of `config`, each once."""
    asked = [protocol for evaluation in evaluations for protocol in evaluation.protocols(config)]
    return [protocol for number, protocol in enumerate(asked) if protocol not in asked[:number]]
