"""The two configs: one for a distillation, one for an evaluation. Immutable, validated, every field a flag's name.

Accuracies are percent everywhere in ppodd; sizes are pixels; times are seconds.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal, TypeVar

import pydantic
from pydantic import Field

from ppodd.datasets import SPECS, Spec, is_path, known_spec
from ppodd.errors import BadInput, unknown
from ppodd.posters import STRATEGIES, BlendParameters
from ppodd.training import ARCHITECTURES, check_architecture

OPTIMISERS = ("Adam", "SGD")
AUGMENTATIONS = ("flip", "rotate", "scale", "crop", "color", "cutout")
ENGINES = ("recomputed", "unrolled")
DEFAULT_ROOT = "dataset"  # where data sets lie unless `root` says
RUNS = "runs"  # folder of the runs in an archive that belong to no sweep
SAVED_POSTERS = "checkpoints"  # where PoDD's code keeps `<run>_poster.pt` and, with learned labels, `<run>_label.pt`
# Fields that say where and how a run is carried out, not what it computes.
CIRCUMSTANCES = frozenset(
    {"name", "device", "root", "workers", "engine", "real_chunk", "offload", "checkpoint_every", "print_freq"}
)
# Fields that a first stage does not depend on: it has one poster, and nothing to start from.
LATER_STAGES = frozenset({"blend", "blend_boost", "blend_decay", "blend_floor", "stage_start"})
CLASS_ORDERS = ("auto", "clip", "means", "sequential")

Positive = Annotated[int, Field(ge=1)]
NonNegative = Annotated[int, Field(ge=0)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegativeFloat = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Steps = Annotated[tuple[Positive, ...], pydantic.AfterValidator(lambda v: tuple(sorted(set(v))))]


class _Config(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", validate_default=True)
    listed: ClassVar[str] = ""  # what lists the fields


def _named(what: str, value: str, accepted: tuple[str, ...]) -> str:
    if value not in accepted:
        raise unknown(what, value, accepted)
    return value


def _architecture(value: str) -> str:
    """A name of `ARCHITECTURES`, or `module:attribute` of the user's own network."""
    return value if ":" in value else _named("arch", value, tuple(ARCHITECTURES))


def _augmentation(value: str) -> str:
    for name in value.split("_") if value not in ("", "none") else ():
        _named("augmentation in strategy", name, AUGMENTATIONS)
    return value


def _dataset(value: str) -> str:
    return value if is_path(value) else _named("dataset", value, tuple(SPECS))


Architecture = Annotated[str, pydantic.AfterValidator(_architecture)]
Augmentation = Annotated[str, pydantic.AfterValidator(_augmentation)]
Optimiser = Annotated[str, pydantic.AfterValidator(lambda v: _named("optimiser", v, OPTIMISERS))]


class DistillConfig(_Config):
    """A whole multi-stage distillation. Field names are the flags that users of the method have."""

    listed = "ppodd distill --help"

    # Run
    name: Annotated[str, Field(pattern=r"^[\w.=,+-]*$")] = Field("", description="name of the run in the archive")
    seed: NonNegative = Field(0, description="seed of everything random")
    device: str = Field("auto", description="auto, cpu, cuda, cuda:N")
    dtype: Literal["float32", "float64"] = Field("float32", description="floating-point type of the run")
    engine: Annotated[str, pydantic.AfterValidator(lambda v: _named("engine", v, ENGINES))] = Field(
        "recomputed",
        description="how the window is differentiated: recomputed step by step, or unrolled (the reference: the same "
        "to rounding, memory grows with the window)",
    )
    checkpoint_every: Positive = Field(20, description="meta-steps between two resume checkpoints")
    print_freq: Positive = Field(10, description="meta-steps between two refreshes of the progress")
    test_freq: Positive = Field(10, description="epochs between two validation losses (cctype 1 decides by them)")

    # Data
    dataset: Annotated[str, pydantic.AfterValidator(_dataset)] = Field(
        "cifar10", description="a known data set, or the path of a parquet file or class-folder tree"
    )
    root: str = Field("", description="folder that holds the data set")
    workers: NonNegative = Field(0, description="accepted for compatibility: the data is held on the device")
    image_size: NonNegative = Field(0, description="resize images to this side (0: as they are)")
    zca: bool = Field(False, description="whiten the images (ZCA)")
    validation: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.1, description="share of the training set held out to measure stage accuracies"
    )

    # Poster and labels
    poster_width: Positive = Field(153, description="poster width (px): with the height, the pixel budget")
    poster_height: Positive = Field(60, description="poster height (px)")
    poster_class_num_x: Positive = Field(5, description="columns of the class layout")
    poster_class_num_y: Positive = Field(2, description="rows of the class layout")
    class_area_width: Positive = Field(32, description="width of a class's area (px)")
    class_area_height: Positive = Field(32, description="height of a class's area (px)")
    patch_num_x: Positive = Field(16, description="overlapping patches along the poster's width")
    patch_num_y: Positive = Field(6, description="overlapping patches along the poster's height")
    class_order: str = Field(
        "auto",
        description="order of the classes on the poster: auto, clip, means, sequential, "
        "a list of labels (0,8,5,…, row by row), or a distance table (.csv, .npy)",
    )
    train_y: bool = Field(False, description="learn the labels too")
    comp_ipc: Positive = Field(10, description="cells of the learned label array: at most classes × this")
    load_poster_run_name: str = Field("", description="start from the poster of this stage folder, .pt or .safetensors")

    # Inner loop
    arch: Architecture = Field("convnet", description="network: a known name or module:attribute")
    width: Positive = Field(128, description="channels of the network's first block")
    distill_batch_size: Positive = Field(96, description="patches drawn each inner step")
    inner_optim: Optimiser = Field("Adam", description="inner optimiser: Adam or SGD")
    inner_lr: PositiveFloat = Field(0.001, description="inner learning rate")
    decay: bool = Field(False, description="cosine decay of the inner learning rate over a training")
    train_lr: bool = Field(False, description="learn the inner learning rate too")
    ddtype: Literal["curriculum", "standard"] = Field(
        "curriculum", description="plain steps before the window, or none"
    )
    cctype: Annotated[int, Field(ge=0, le=3)] = Field(
        2, description="how many plain steps: 0 most, 1 growing, 2 random, 3 window random"
    )
    window: Positive = Field(60, description="differentiated inner steps")
    minwindow: NonNegative = Field(0, description="least plain steps before the window")
    totwindow: Positive = Field(200, description="plain steps and window together, at most")
    syn_strategy: Augmentation = Field("flip_rotate", description="augmentation of patches")
    real_strategy: Augmentation = Field("flip_rotate", description="augmentation of real images")
    comp_aug: bool = Field(False, description="compose the augmentations of patches instead of drawing one")
    comp_aug_real: bool = Field(False, description="compose the augmentations of real images")

    # Outer loop
    epochs: Positive = Field(150, description="passes over the training set, all stages together")
    start_epoch: NonNegative = Field(0, description="first epoch: epochs before it are not run")
    steps_per_epoch: NonNegative = Field(0, description="meta-steps in an epoch (0: one pass over the training set)")
    batch_size: Positive = Field(5000, description="real images in a meta-step")
    real_chunk: Positive = Field(500, description="real images held in a graph at a time: lower it to save memory")
    offload: bool = Field(False, description="keep the window's gradients in host memory, not on the GPU")
    outer_optim: Literal["Adam"] = Field("Adam", description="outer optimiser")
    lr: PositiveFloat = Field(0.001, description="outer learning rate")
    label_lr_scale: PositiveFloat = Field(1.0, description="the label array learns at lr / this")
    eps: PositiveFloat = Field(1e-8, description="ε of the outer Adam")
    wd: NonNegativeFloat = Field(0.0, description="weight decay of the outer Adam")
    clip_coef: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.9, description="coefficient of the gradient norm's average"
    )
    update_steps: Positive = Field(1, description="accepted for compatibility: the published code ignores it")
    batch_update_steps: Positive = Field(1, description="accepted for compatibility: the published code ignores it")

    # Stages and blend
    num_stages: Positive = Field(5, description="stages: after each, its poster is archived")
    stage_start: Literal["warm", "fresh"] = Field(
        "warm", description="a stage starts from the last poster or a new one"
    )
    blend: Annotated[str, pydantic.AfterValidator(lambda v: _named("blend", v, tuple(STRATEGIES)))] = Field(
        "dynamic", description="blend strategy: " + ", ".join(STRATEGIES)
    )
    blend_boost: PositiveFloat = Field(1.5, description="β: factor of the boosted poster's weight")
    blend_decay: NonNegativeFloat = Field(0.5, description="λ: decay of a poster's weight with age")
    blend_floor: Annotated[float, Field(ge=0, le=1)] = Field(0.1, description="ε: a weight is at least ε / posters")
    stage_nets: Positive = Field(8, description="networks that measure a stage's accuracy")
    stage_steps: Positive = Field(300, description="inner steps they are trained for")
    num_train_eval: Positive = Field(8, description="networks of an evaluation")
    budgets: Annotated[Steps, Field(min_length=1)] = Field(
        (300, 600, 1000, 2000), description="training steps at which an evaluation reads the accuracy"
    )

    @property
    def blend_parameters(self) -> BlendParameters:
        return BlendParameters(self.blend_boost, self.blend_decay, self.blend_floor)

    @property
    def stage_epochs(self) -> int:
        """Epochs of each stage: `⌊epochs / num_stages⌋`."""
        return (self.epochs - self.start_epoch) // self.num_stages

    def epoch_steps(self, images: int) -> int:
        """Meta-steps of an epoch over so many training images: one pass, the last batch a shorter one."""
        return self.steps_per_epoch or math.ceil(images / self.batch_size)

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> DistillConfig:
        patches = self.patch_num_x * self.patch_num_y
        _require(
            self.distill_batch_size <= patches,
            f"distill_batch_size={self.distill_batch_size} exceeds the {patches} patches "
            f"(patch_num_x × patch_num_y): lower it or raise the patch grid",
        )
        _require(
            self.window <= self.totwindow,
            f"window={self.window} exceeds totwindow={self.totwindow}: lower window or raise totwindow",
        )
        _require(
            self.minwindow <= self.totwindow - self.window,
            f"minwindow={self.minwindow} exceeds totwindow − window = {self.totwindow - self.window}: "
            f"lower minwindow or raise totwindow",
        )
        _require(
            self.num_stages <= self.epochs - self.start_epoch,
            f"num_stages={self.num_stages} exceeds the {self.epochs - self.start_epoch} epochs to run: "
            f"give each stage at least one epoch",
        )
        _require(
            not (self.offload and self.engine == "unrolled"),
            "offload=True needs engine=recomputed: the unrolled engine keeps graphs",
        )
        if self.dataset in SPECS and not self.image_size:
            check_geometry(self, SPECS[self.dataset])
        if spec := known_spec(self.dataset, self.image_size):
            check_architecture(self.arch, spec)
        return self

    def notices(self) -> list[str]:
        """Flags that were set but change nothing, one line each."""
        ignored = {"update_steps": 1, "batch_update_steps": 1}
        lines = [
            f"{flag}={getattr(self, flag)} is ignored, as in the published code"
            for flag, default in ignored.items()
            if getattr(self, flag) != default
        ]
        if self.workers:
            lines.append(f"workers={self.workers} is ignored: the data set is held on the device")
        return lines


class EvaluationConfig(_Config):
    """How archived posters are judged: fresh networks of each `arch`, trained in each `mode`, read at each budget.

    Fields left empty (`None`) take the value of the distillation under test.
    """

    listed = "ppodd evaluate --help"

    arch: Annotated[tuple[Architecture, ...], Field(min_length=1)] = Field(
        ("convnet",), description="networks to train"
    )
    mode: Annotated[tuple[Literal["blend", "latest"], ...], Field(min_length=1)] = Field(
        ("blend",), description="train on the blend of all posters, or on the latest alone"
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
        """One fully resolved protocol for each architecture and mode, to judge posters of `config`."""

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
            )
            for arch in self.arch
            for mode in self.mode
        ]


def check_evaluation(evaluation: EvaluationConfig, dataset: str, image_size: int) -> None:
    """Raise `BadInput` where one of its networks does not fit the data set's images, as far as these are known."""
    if spec := known_spec(dataset, image_size):
        for arch in evaluation.arch:
            check_architecture(arch, spec)


class EvaluationProtocol(_Config):
    """Everything an evaluation depends on but the posters: one architecture, one mode."""

    arch: Architecture
    mode: Literal["blend", "latest"]
    budgets: Steps
    nets: Positive
    seed: NonNegative
    width: Positive
    batch: Positive
    optim: Optimiser
    inner_lr: PositiveFloat | None  # None: the learned one of the latest poster
    decay: bool
    strategy: Augmentation
    comp_aug: bool


def protocols(evaluations: Sequence[EvaluationConfig], config: DistillConfig) -> list[EvaluationProtocol]:
    """Every protocol that these ask for to judge posters of `config`, each once."""
    asked = [protocol for evaluation in evaluations for protocol in evaluation.protocols(config)]
    return [protocol for number, protocol in enumerate(asked) if protocol not in asked[:number]]


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise BadInput(message)


def check_geometry(config: DistillConfig, spec: Spec) -> None:
    """Raise `BadInput` unless `config`'s poster, class layout and patches fit images and classes of `spec`."""
    grid = config.poster_class_num_x * config.poster_class_num_y
    _require(
        grid == spec.classes,
        f"poster_class_num_x × poster_class_num_y = {config.poster_class_num_x} × {config.poster_class_num_y} "
        f"= {grid}, "
        f"but the data set has {spec.classes} classes: choose a layout whose product is {spec.classes}",
    )
    for axis, image, poster, areas, area, patches in (
        (
            "width",
            spec.width,
            config.poster_width,
            config.poster_class_num_x,
            config.class_area_width,
            config.patch_num_x,
        ),
        (
            "height",
            spec.height,
            config.poster_height,
            config.poster_class_num_y,
            config.class_area_height,
            config.patch_num_y,
        ),
    ):
        _require(
            image <= poster,
            f"poster_{axis}={poster} is smaller than the image {axis} {image}: raise it to at least {image}",
        )
        letter = "x" if axis == "width" else "y"
        _require(
            patches <= poster - image + 1,
            f"patch_num_{letter}={patches} patches of {image} px cannot be placed at different positions on "
            f"poster_{axis}={poster}: at most {poster - image + 1}",
        )
        _require(
            area <= poster,
            f"class_area_{axis}={area} exceeds poster_{axis}={poster}: lower it to at most {poster}",
        )
        _require(
            (areas == 1 and area == poster) or (areas > 1 and math.ceil((poster - area) / (areas - 1)) <= area),
            f"{areas} class areas of class_area_{axis}={area} leave gaps on poster_{axis}={poster}: "
            f"raise class_area_{axis} to at least {math.ceil(poster / areas)}",
        )


def poster_ipc(config: DistillConfig, spec: Spec) -> float:
    """Images per class of one poster: `H·W / (h·w·K)`."""
    return config.poster_width * config.poster_height / (spec.height * spec.width * spec.classes)


def known_poster_ipc(config: DistillConfig) -> float | None:
    """The same of a data set whose shape is known unread, else `None`."""
    spec = known_spec(config.dataset, config.image_size)
    return poster_ipc(config, spec) if spec else None


def absolute_paths(config: DistillConfig) -> DistillConfig:
    """The same config, its paths absolute: trials, evaluators and later commands have other working folders."""
    changes: dict[str, Any] = {}
    if config.dataset != "digits":
        changes["root"] = _absolute(config.root or DEFAULT_ROOT)
    if is_path(config.dataset):
        changes["dataset"] = _absolute(os.path.join(config.root, config.dataset))
    if config.class_order.endswith((".csv", ".npy")):
        changes["class_order"] = _absolute(config.class_order)
    for poster in (config.load_poster_run_name, f"{SAVED_POSTERS}/{config.load_poster_run_name}_poster.pt"):
        if config.load_poster_run_name and os.path.exists(poster):
            changes["load_poster_run_name"] = _absolute(poster)
            break
    return config.model_copy(update=changes)


def _absolute(path: str) -> str:
    return os.path.abspath(os.path.expanduser(path))


C = TypeVar("C", bound=_Config)


def build(kind: type[C], values: dict[str, Any]) -> C:
    """A validated config of `kind`; every failure is one line of `BadInput`."""
    for key in values:
        if key not in kind.model_fields:
            raise unknown("config field", key, kind.model_fields, kind.listed)
    try:
        return kind(**values)
    except pydantic.ValidationError as error:
        errors = error.errors()
        within = {e["loc"][:-1] for e in errors if e["loc"]}  # a list whose values are wrong is not also too short
        raise BadInput("; ".join(said(e) for e in errors if e["loc"] not in within)) from None


def said(error: Any) -> str:
    """One of pydantic's errors in one line that begins with the field and its value."""
    *names, last = [str(part) for part in error["loc"]] or ["config"]
    field = ".".join(names if names and last.isdigit() else [*names, last])
    return f"{field}={error['input']!r}: {_reason(error)}"


def _reason(error: Any) -> str:
    match error["type"]:
        case "tuple_type" | "list_type" if isinstance(error["input"], (int, float, str)):
            return f"accepted is a list: write [{error['input']}]"
        case "tuple_type" | "list_type":
            return "accepted is a list: write [value, value]"
        case "dict_type" | "model_type":
            return "accepted are keys with their values: write {key: value}"
        case "too_short":
            return "name at least one"
    message = error["msg"].removeprefix("Value error, ")
    return f"{message[0].lower()}{message[1:]}"
