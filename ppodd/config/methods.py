"""The methods that are known by name, and what of a config each decides. Light: needs no torch.

A method says what poster a stage starts from and what of it is learned. All else is the same for all of them: stages,
blend, archive, evaluation, and the pixels of a poster; so any two stand beside each other at equal budgets.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from ppodd.posters import Geometry, Tiling, scaled_tiles, whole_tiles
from ppodd.registry import Entry, Registry

Settled = dict[str, Any]


def _as_given(config: Any) -> Settled:
    del config
    return {}


def _one_stage(config: Any) -> Settled:
    return {"num_stages": 1}


def _one_large_poster(config: Any) -> Settled:
    """All stages' pixels, patches and label cells in one poster, which grows along its shorter side first."""
    times = {"x": 1, "y": 1}
    for factor in sorted(_prime_factors(config.num_stages), reverse=True):
        wide = config.poster_width * times["x"] > config.poster_height * times["y"]
        times["y" if wide else "x"] *= factor
    axes = {"x": ("poster_width", "class_area_width", "patch_num_x")}
    axes["y"] = ("poster_height", "class_area_height", "patch_num_y")
    grown = {field: getattr(config, field) * times[axis] for axis, fields in axes.items() for field in fields}
    return {**grown, "comp_ipc": config.comp_ipc * config.num_stages, "num_stages": 1}


def _prime_factors(number: int) -> list[int]:
    for factor in range(2, number + 1):
        if number % factor == 0:
            return [factor, *_prime_factors(number // factor)]
    return []


@dataclass(frozen=True)
class Method(Entry):
    """A way to make posters.

    Attributes:
        target: the poster that a stage starts from.
        learns: what of it is distilled: all, its labels alone (with `train_y`), or nothing.
        tiling: how images lie on the poster, where its patches are whole images and no overlapping windows.
        settles: the config's fields that the method decides, whatever was given.
        role: what results show others beside: real images drawn at random at the same budget, the whole training set
            (a ceiling), or posters that say nothing (chance).
    """

    learns: Literal["all", "labels", "nothing"] = "labels"
    tiling: Callable[[Geometry, Any], Tiling] | None = None
    settles: Callable[[Any], Settled] = _as_given
    role: Literal["", "random", "ceiling", "chance"] = ""

    @property
    def reference(self) -> bool:
        """Whether it is of no pixel budget, so that none can be equal to it."""
        return self.role in ("ceiling", "chance")


_RANDOM = "ppodd.methods.start:random_poster"
_BLANK = "ppodd.methods.start:blank_poster"
_REAL = "ppodd.methods.real_images"

P_PODD = "p-podd"
METHODS = Registry(
    "method",
    Method,
    "ppodd.methods",
    "a function (config, dataset, layout, stage) -> the poster [C, H, W] of that stage, of which only labels are "
    "learned (train_y)",
    {
        P_PODD: Method(_RANDOM, "posters in stages", learns="all"),
        "podd": Method(_RANDOM, "one stage, of the same compute", learns="all", settles=_one_stage),
        "podd-cumulative": Method(_RANDOM, "one poster of all stages' pixels", learns="all", settles=_one_large_poster),
        "downscaled": Method(
            f"{_REAL}:downscaled", "random real images scaled down to fit", tiling=scaled_tiles, role="random"
        ),
        "cropped": Method(f"{_REAL}:cropped", "their centres, cut to fit", tiling=scaled_tiles),
        "random-images": Method(
            f"{_REAL}:random_images", "random real images, whole", tiling=whole_tiles, role="random"
        ),
        "k-means": Method(f"{_REAL}:k_means", "those nearest to a class's centres", tiling=whole_tiles),
        "herding": Method(f"{_REAL}:herding", "those whose mean is a class's mean", tiling=whole_tiles),
        "random-poster": Method(_RANDOM, "a random poster, of which labels alone are learned"),
        "full-data": Method(
            _BLANK, "the whole training set, a ceiling", learns="nothing", settles=_one_stage, role="ceiling"
        ),
        "chance": Method(_BLANK, "a blank poster", learns="nothing", settles=_one_stage, role="chance"),
    },
)
