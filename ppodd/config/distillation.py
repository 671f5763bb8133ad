"""The config of a distillation: every field a flag of the method.

Accuracies are percent everywhere in ppodd; sizes are pixels; times are seconds.
"""

from __future__ import annotations

import math
import os
from typing import Annotated, Any, ClassVar, Literal

import pydantic
from pydantic import Field

from ppodd.config.fields import (
    Architecture,
    Augmentation,
    BlendName,
    ClassNames,
    ClassOrder,
    DataSource,
    MethodName,
    NonNegative,
    NonNegativeFloat,
    Optimiser,
    Positive,
    PositiveFloat,
    Steps,
    one_of,
    switch,
)
from ppodd.config.methods import METHODS, P_PODD
from ppodd.config.validation import WrittenConfig
from ppodd.datasets import DEFAULT_ROOT, SPECS, Request, Spec, is_embedded, is_path, known_spec
from ppodd.errors import BadInput, check_utf8
from ppodd.posters import BLENDS, BlendParameters, Geometry
from ppodd.training import BF16, FLOAT32, PRECISIONS, Precision, check_architecture, written_out

ENGINES = ("recomputed", "unrolled")
SAVED_POSTERS = "checkpoints"  # where PoDD's code keeps `<run>_poster.pt` and, with learned labels, `<run>_label.pt`
# Fields that say where and how a run is carried out, not what it computes.
CIRCUMSTANCES = frozenset(
    {"name", "device", "root", "workers", "engine", "compile", "real_chunk", "offload"}
    | {"checkpoint_every", "print_freq"}
)
# Fields that a first stage does not depend on: it has one poster, and nothing to start from.
LATER_STAGES = frozenset({"blend", "blend_boost", "blend_decay", "blend_floor", "stage_start"})
# Fields of the meta-steps, which a method that learns nothing does not take.
OUTER_LOOP = frozenset(
    {"epochs", "start_epoch", "steps_per_epoch", "batch_size", "lr", "outer_decay", "label_lr_scale"}
    | {"eps", "wd", "clip_coef"}
    | {"ddtype", "cctype", "window", "minwindow", "totwindow", "real_strategy", "comp_aug_real", "test_freq"}
    | {"precision"}
)
# Fields of the posters, which a reference of no pixel budget does not have.
POSTERS = frozenset({*Geometry._fields, "class_order", "train_y", "comp_ipc", "label_cells"})


class DistillConfig(WrittenConfig):
    """A whole multi-stage distillation. Field names are the flags that users of the method have."""

    listed = "ppodd distill --help"
    sections: ClassVar = {
        "name": "the run",
        "dataset": "the data",
        "poster_width": "poster, class order and labels (PoDD: IPC, PoCO, PoDDL)",
        "arch": "inner loop and its curriculum (RaT-BPTT)",
        "epochs": "outer loop: the meta-steps",
        "method": "method, stages and blend π (P-PoDD)",
        "stage_nets": "measuring stages, and evaluation",
    }

    # Run
    name: str = Field("", description="name of the run in the archive")
    seed: NonNegative = Field(0, description="seed of everything random")
    device: str = Field("auto", description="auto, cpu, cuda, cuda:N")
    dtype: Literal["float32", "float64"] = Field("float32", description="floating-point type of the run")
    engine: Annotated[str, pydantic.AfterValidator(lambda v: one_of("engine", v, ENGINES))] = Field(
        "recomputed",
        description="how the window is differentiated: recomputed step by step, or unrolled (the reference: the same "
        "to rounding, memory grows with the window)",
    )
    compile: Annotated[Literal["auto", "on", "off"], pydantic.BeforeValidator(switch)] = Field(
        "auto",
        description="on a CPU, functions compiled for it: where it has a C compiler, by all means, or never (the same "
        "to rounding)",
    )
    precision: Annotated[str, pydantic.AfterValidator(lambda v: str(Precision.read(v)))] = Field(
        FLOAT32,
        description=f"of a meta-step's convolutions, where the machine has it: {', '.join(PRECISIONS)}; or of its "
        "parts, such as plain=bf16,real=tf32 or window=bf16",
    )
    checkpoint_every: Positive = Field(20, description="meta-steps between two resume checkpoints")
    print_freq: Positive = Field(10, description="meta-steps between two refreshes of the progress")
    test_freq: Positive = Field(10, description="epochs between two validation losses (cctype 1 decides by them)")

    # Data
    dataset: DataSource = Field("cifar10", description="data set")
    root: str = Field("", description="folder that holds the data set")
    workers: NonNegative = Field(0, description="accepted for compatibility: the data is held on the device")
    image_size: NonNegative = Field(0, description="resize images to this side (0: as they are)")
    classes: ClassNames = Field((), description="the classes that are kept: names, numbers, ranges 0-9 (none: all)")
    per_class: NonNegative = Field(0, description="training images of each class that are kept (0: all)")
    image_column: str = Field("", description="column of a table that holds the images (none: the usual ones)")
    label_column: str = Field("", description="column of a table that holds the labels (none: the usual ones)")
    on_bad_image: Literal["refuse", "skip"] = Field(
        "refuse", description="what to do with images that cannot be read: refuse all, or skip and count them"
    )
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
    class_order: ClassOrder = Field("auto", description="order of the classes on the poster")
    train_y: bool = Field(False, description="learn the labels too")
    comp_ipc: Positive = Field(10, description="cells of the learned label array: at most classes × this")
    label_cells: Literal["fitting", "released"] = Field(
        "fitting", description="how many cells the label array has: as many as fit, or fewer, as the released code took"
    )
    load_poster_run_name: str = Field("", description="start from the poster of this stage folder, .pt or .safetensors")

    # Inner loop
    arch: Architecture = Field("convnet", description="network")
    width: Positive = Field(128, description="channels of the network's first block")
    distill_batch_size: Positive = Field(96, description="patches drawn each inner step")
    inner_optim: Optimiser = Field("Adam", description="inner optimiser")
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
    outer_decay: bool = Field(False, description="cosine decay of the outer learning rate over a stage")
    label_lr_scale: PositiveFloat = Field(1.0, description="the label array learns at lr / this")
    eps: PositiveFloat = Field(1e-8, description="ε of the outer Adam")
    wd: NonNegativeFloat = Field(0.0, description="weight decay of the outer Adam")
    clip_coef: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.9, description="coefficient of the gradient norm's average"
    )
    update_steps: Positive = Field(1, description="accepted for compatibility: the published code ignores it")
    batch_update_steps: Positive = Field(1, description="accepted for compatibility: the published code ignores it")

    # Method, stages and blend
    method: MethodName = Field(P_PODD, description="what is distilled, or a baseline beside it")
    num_stages: Positive = Field(5, description="stages: after each, its poster is archived")
    stage_start: Literal["warm", "fresh"] = Field(
        "warm", description="a stage starts from the last poster or a new one"
    )
    blend: BlendName = Field("dynamic", description="blend strategy")
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
        """The numbers that blend strategies take from the config."""
        return BlendParameters(self.blend_boost, self.blend_decay, self.blend_floor)

    @property
    def data(self) -> Request:
        """Which data, and how it is prepared."""
        return Request(**{field: getattr(self, field) for field in Request._fields})

    @property
    def geometry(self) -> Geometry:
        """The numbers that lay out the poster."""
        return Geometry(*(getattr(self, field) for field in Geometry._fields))

    @property
    def stage_epochs(self) -> int:
        """Epochs of each stage: `⌊epochs / num_stages⌋`; none where nothing is learned."""
        return (self.epochs - self.start_epoch) // self.num_stages if self.learns else 0

    @property
    def learns(self) -> bool:
        """Whether anything is distilled."""
        learns = METHODS.known(self.method).learns
        return learns == "all" or (learns == "labels" and self.train_y)

    @property
    def idle(self) -> frozenset[str]:
        """Fields that nothing of this run depends on."""
        later = LATER_STAGES if self.num_stages == 1 and not BLENDS.known(self.blend).leaks else frozenset()
        outer = frozenset() if self.learns else OUTER_LOOP
        return later | outer | (POSTERS if METHODS.known(self.method).reference else frozenset())

    def epoch_steps(self, images: int) -> int:
        """Meta-steps of an epoch over so many training images: one pass, the last batch a shorter one."""
        return self.steps_per_epoch or math.ceil(images / self.batch_size)

    def meta_steps(self, images: int) -> int:
        """Those of all stages, on so many training images."""
        return self.num_stages * self.stage_epochs * self.epoch_steps(images)

    def check_fits(self, spec: Spec) -> None:
        """Raise `BadInput` unless the poster, laid out as its method does, fits images and classes of `spec`."""
        self.geometry.check(spec)
        if tiling := METHODS.known(self.method).tiling:
            try:
                tiling(self.geometry, spec)
            except BadInput as error:
                raise BadInput(f"method={self.method} {error}", "method") from None

    @pydantic.model_validator(mode="wrap")
    @classmethod
    def _settled(cls, values: Any, handler: pydantic.ModelWrapValidatorHandler[DistillConfig]) -> DistillConfig:
        """With what the method decides, whatever was given."""
        config = handler(values)
        if isinstance(values, cls):  # which it has decided already
            return config
        decided = METHODS.known(config.method).settles(config)
        return handler({**values, **decided}) if decided else config

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> DistillConfig:
        patches = self.patch_num_x * self.patch_num_y
        _require(
            self.distill_batch_size <= patches,
            "distill_batch_size",
            f"distill_batch_size={self.distill_batch_size} exceeds the {patches} patches "
            f"(patch_num_x × patch_num_y): lower it or raise the patch grid",
        )
        _require(
            self.window <= self.totwindow,
            "window",
            f"window={self.window} exceeds totwindow={self.totwindow}: lower window or raise totwindow",
        )
        _require(
            self.minwindow <= self.totwindow - self.window,
            "minwindow",
            f"minwindow={self.minwindow} exceeds totwindow − window = {self.totwindow - self.window}: "
            f"lower minwindow or raise totwindow",
        )
        _require(
            self.num_stages <= self.epochs - self.start_epoch,
            "num_stages",
            f"num_stages={self.num_stages} exceeds the {self.epochs - self.start_epoch} epochs to run: "
            f"give each stage at least one epoch",
        )
        _require(
            not (self.offload and self.engine == "unrolled"),
            "offload",
            "offload=True needs engine=recomputed: the unrolled engine keeps graphs",
        )
        _check_precision(self)
        if self.dataset in SPECS and not self.image_size and not self.classes:
            self.check_fits(SPECS[self.dataset])
        if spec := known_spec(self.dataset, self.image_size):  # which does not depend on how many classes there are
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


def difference(mine: DistillConfig, theirs: DistillConfig) -> str:
    """The first field by which two configs compute something else; empty where there is none.

    Data that is named by its path is known by its digest once it is read, wherever it lies.
    """
    anywhere = is_path(mine.dataset) and is_path(theirs.dataset)
    skipped = CIRCUMSTANCES | ({"dataset"} if anywhere else set())
    fields = (field for field in type(mine).model_fields if field not in skipped)
    return next((field for field in fields if getattr(mine, field) != getattr(theirs, field)), "")


def _require(holds: bool, field: str, message: str) -> None:
    if not holds:
        raise BadInput(message, field)


def _check_precision(config: DistillConfig) -> None:
    said, precision = f"precision={config.precision}", Precision.read(config.precision)

    def needs(holds: bool, what: str) -> None:
        _require(holds, "precision", f"{said}{what}")

    reduced = precision != (FLOAT32,) * len(precision)
    needs(not reduced or config.dtype == FLOAT32, f" needs dtype={FLOAT32}, not {config.dtype}")
    if BF16 in precision:
        needs(written_out(config.arch), f": {BF16} needs a ConvNet with instance norm, not arch={config.arch}")
        needs(config.engine == "recomputed", f": {BF16} needs engine=recomputed, not {config.engine}")


def known_poster_ipc(config: DistillConfig) -> float | None:
    """Images per class of one poster; `None` of a reference, or where the data set's shape is not known unread."""
    spec = known_spec(config.dataset, config.image_size)
    reference = METHODS.known(config.method).reference
    return config.geometry.ipc(spec) if spec and not config.classes and not reference else None


def absolute_paths(config: DistillConfig) -> DistillConfig:
    """The same config, its paths absolute: trials, evaluators and later commands have other working folders."""
    changes: dict[str, Any] = {}
    if not is_embedded(config.dataset):
        changes["root"] = _absolute(config.root or DEFAULT_ROOT)
    if is_path(config.dataset):
        changes["dataset"] = _absolute(os.path.join(config.root, os.path.expanduser(config.dataset)))
    if config.class_order.endswith((".csv", ".npy")):
        changes["class_order"] = _absolute(config.class_order)
    for poster in (config.load_poster_run_name, f"{SAVED_POSTERS}/{config.load_poster_run_name}_poster.pt"):
        if config.load_poster_run_name and os.path.exists(poster):
            changes["load_poster_run_name"] = _absolute(poster)
            break
    return config.model_copy(update=changes)


def _absolute(path: str) -> str:
    return check_utf8(os.path.abspath(os.path.expanduser(path)))
