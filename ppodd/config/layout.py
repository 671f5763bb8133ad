"""`ipc`: a layout that is chosen for the data by its pixel budget, in place of the preset's. Light: needs no torch."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

from ppodd.config.distillation import DistillConfig, absolute_paths
from ppodd.config.fields import Positive, PositiveFloat
from ppodd.config.presets import PRESETS
from ppodd.config.validation import Config, build
from ppodd.datasets import SPECS, Request, Spec
from ppodd.errors import BadInput
from ppodd.posters import Geometry, geometry_of
from ppodd.words import counted

IPC = "ipc"
DEFAULT_IPC = 0.9  # of data that no preset is for
_SIZE = {"poster_width", "poster_height"}
_EPOCH_STEPS = {"steps_per_epoch": 6}  # as digits has, so that its schedule takes no longer on more images
# Digits' rates are for 8 px: on photographs of 32 px the meta-loss rose by them (2.87 → 3.04 in 120 meta-steps), and
# fell by these (2.45 → 2.21 in 24).
_RATES = {"inner_lr": 0.001, "lr": 0.003}
_SCHEDULE = {"steps_per_epoch", "epochs", "batch_size"}
_BATCH = "distill_batch_size"


class _Asked(Config):
    """What is said of a layout: its pixel budget, in images per class, and those of its numbers that are given."""

    ipc: PositiveFloat = DEFAULT_IPC
    poster_width: Positive | None = None
    poster_height: Positive | None = None
    poster_class_num_x: Positive | None = None
    poster_class_num_y: Positive | None = None
    class_area_width: Positive | None = None
    class_area_height: Positive | None = None
    patch_num_x: Positive | None = None
    patch_num_y: Positive | None = None


class ConfigWithLayout(NamedTuple):
    """Values of a config, and the shape of the data that a layout was chosen for; `None` where none was."""

    values: dict[str, Any]
    spec: Spec | None = None


def preset_for(dataset: str) -> str:
    """The preset that a run starts from where none is named: the data set's own, else `digits`."""
    return dataset if dataset in PRESETS else "digits"


def laid_out(
    values: Mapping[str, Any], given: Collection[str], meant: bool, shape: Callable[[Request], Spec] | None = None
) -> ConfigWithLayout:
    """Config values whose layout is chosen by their `ipc`, but for what was `given`.

    Args:
        meant: whether the values, but for what was given, are meant for the data. Those that are not are a preset's:
            the layout is chosen without an `ipc` too, the rates are those for larger images, and there are as many
            meta-steps as the preset's data has.
        shape: tells the shape of data.

    Raises:
        BadInput: the data is not there, no layout has so few pixels, or the poster's size is given too.
    """
    values = dict(values)
    wanted = values.pop(IPC, None)
    if wanted is None and (meant or set(Geometry._fields) <= set(given)):
        return ConfigWithLayout(values)
    asked = {IPC: wanted} if wanted is not None else {}
    fixed = build(_Asked, asked | {name: values[name] for name in Geometry._fields if name in given})
    ipc, sides = fixed.ipc, fixed.model_dump(exclude={IPC}, exclude_none=True)
    if asked and sides.keys() >= _SIZE:
        raise BadInput(
            f"ipc={wanted} beside poster_width={fixed.poster_width} and poster_height={fixed.poster_height}, which say "
            f"the pixel budget already: leave one of them out",
            IPC,
        )
    try:
        spec = _spec(values, shape or shape_of)
    except BadInput as error:
        error.field = error.field or "dataset"
        raise
    geometry = geometry_of(ipc, spec, sides)
    patches = geometry.patch_num_x * geometry.patch_num_y
    batch = {} if _BATCH in given else {_BATCH: min(patches, values.get(_BATCH, patches))}
    steps = {} if meant or _SCHEDULE & set(given) else _EPOCH_STEPS
    rates = {} if meant else {name: rate for name, rate in _RATES.items() if name not in given}
    return ConfigWithLayout({**values, **geometry._asdict(), **batch, **steps, **rates}, spec)


def in_words(geometry: Geometry, spec: Spec) -> str:
    """A layout, for people to see what was chosen."""
    width, height, columns, rows, area_width, area_height, patches_x, patches_y = geometry
    return (
        f"layout chosen for {counted(spec.classes, 'class')} of {spec.width} × {spec.height} px: poster {width} × "
        f"{height} px ({geometry.ipc(spec):.3f} IPC), class grid {columns} × {rows} of areas {area_width} × "
        f"{area_height} px, {patches_x} × {patches_y} patches"
    )


def shape_of(request: Request) -> Spec:
    """The shape of data, which is read for it."""
    from ppodd.datasets import read_images  # which needs numpy: a config does without

    return read_images(request)[0].spec


def _spec(values: Mapping[str, Any], shape: Callable[[Request], Spec]) -> Spec:
    """The shape of the data that config values say."""
    dataset = values.get("dataset")
    if dataset in SPECS and not values.get("classes") and not int(values.get("image_size") or 0):
        return SPECS[dataset]
    data = {name: values[name] for name in Request._fields if name in values}
    config = absolute_paths(build(DistillConfig, data))
    return shape(config.data)
