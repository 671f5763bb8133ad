"""Pictures to bytes: each decoded once, as it is; how many channels and what depth is decided over all of them.

Grey pictures are spread to three channels where any picture has colour. 16-bit, 12-bit and float pictures are scaled
to bytes by the depth that holds the largest value of the whole data set. Transparency is laid on white, and the
orientation that a camera noted is applied.
"""

from __future__ import annotations

import io
import re
import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from ppodd.datasets.listing import is_lfs_pointer
from ppodd.datasets.parts import Picture
from ppodd.errors import BadInput
from ppodd.machine import cores
from ppodd.words import counted

_CHUNK = 64  # pictures that a thread decodes at a time
_DEPTHS = (8, 10, 12, 14, 16)  # bits
_GREY = frozenset({"1", "L", "LA", "La"})
_DEEP = ("I", "F")  # what the modes of more than 8 bits start with
_16_BITS = re.compile(r";16[BLN]\b")  # a channel, as Pillow names how they lie in a file
_WITH_ALPHA = frozenset({"RGBA", "RGBa", "LA", "La", "PA"})
_SEVERAL_FRAMES = frozenset({"GIF", "TIFF", "WEBP", "PNG", "AVIF"})


@dataclass
class Decoded:
    """What was seen while pictures were decoded."""

    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)  # (width, height), upright
    turned: int = 0
    flattened: int = 0
    first_frames: int = 0
    deep_colour: int = 0  # pictures of 16 bits a channel, of which the upper 8 are read
    brightest: int = 0  # of these, the largest of their upper 8 bits
    first: tuple[str, tuple[int, ...]] | None = None  # name and [h, w] of the first picture
    bad: list[str] = field(default_factory=list)  # why pictures were left out, where that was asked for


def decode(pictures: Iterable[Picture], size: int, skip_bad: bool, seen: Decoded) -> list[np.ndarray | None]:
    """Each picture's pixels: `[h, w]` or `[h, w, 3]`, of bytes or deeper; `None` where it is left out.

    Args:
        size: the side that all are resized to (0: they must be of one size).
        skip_bad: leave out what cannot be read, instead of refusing it.

    Raises:
        BadInput: a picture cannot be read, or is of another size than the first; its file is named.
    """

    def one(picture: Picture) -> tuple[np.ndarray, _Facts] | BadInput:
        try:
            return _decoded(picture, size)
        except BadInput as error:
            if not skip_bad:
                raise
            return error

    pixels: list[np.ndarray | None] = []
    with warnings.catch_warnings():  # of large pictures: these are refused
        warnings.simplefilter("ignore")
        for picture, result in _in_threads(one, pictures):
            if isinstance(result, BadInput):
                seen.bad.append(str(result))
                pixels.append(None)
                continue
            array, facts = result
            _same_size(picture, array, seen)
            seen.sizes[facts.size] += 1
            seen.turned += facts.turned
            seen.flattened += facts.flattened
            seen.first_frames += facts.first_frame
            seen.deep_colour += facts.upper_bits is not None
            seen.brightest = max(seen.brightest, facts.upper_bits or 0)
            pixels.append(array)
    return pixels


def check_deep_colour(seen: Decoded, where: str) -> None:
    """Raise `BadInput` where the upper 8 bits of 16-bit colour, which are read, are of values that need fewer than 16.

    Such values would be dark, and no lower bits are there to make them brighter with.
    """
    bits = next(bits for bits in _DEPTHS if seen.brightest < 1 << (bits - 8))
    if seen.deep_colour and bits < _DEPTHS[-1]:
        raise BadInput(
            f"{where}: colour of 16 bits a channel ({counted(seen.deep_colour, 'picture')}) has values of {bits} bits, "
            f"and only the upper 8 of 16 are read: scale it to 8 bits"
        )


def stacked(splits: list[list[np.ndarray]], where: str) -> tuple[list[np.ndarray], str]:
    """Byte images `[N, C, h, w]` of each split, and how deep pictures were scaled, in words.

    Raises:
        BadInput: deep pictures hold values that no depth explains.
    """
    every = [array for split in splits for array in split]
    if not every:
        return [np.zeros((0, 0, 0, 0), np.uint8) for _ in splits], ""
    channels = 3 if any(array.ndim == 3 for array in every) else 1
    height, width = every[0].shape[:2]
    scale, words = _depth([array for array in every if array.dtype != np.uint8], where)
    out = []
    for split in splits:
        images = np.empty((len(split), channels, height, width), np.uint8)
        for row, array in enumerate(split):
            pixels = array if array.dtype == np.uint8 else np.round(array * scale).astype(np.uint8)
            images[row] = pixels if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
        out.append(images)
    return out, words


@dataclass(frozen=True)
class _Facts:
    size: tuple[int, int]
    turned: bool = False
    flattened: bool = False
    first_frame: bool = False
    upper_bits: int | None = None  # the largest value of the upper 8 bits of 16-bit colour


def _decoded(picture: Picture, size: int) -> tuple[np.ndarray, _Facts]:
    if isinstance(picture.data, BadInput):
        raise picture.data
    if isinstance(picture.data, np.ndarray):
        return _from_pixels(picture.where, picture.data, size)
    try:
        if isinstance(picture.data, Path) and not picture.data.is_file():  # to open a pipe may wait for ever
            raise ValueError("it is no regular file")
        data = io.BytesIO(picture.data) if isinstance(picture.data, bytes) else picture.data
        with Image.open(data) as file:
            return _from_file(file, size)
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise BadInput(
            f"{picture.where} is no readable image ({_reason(picture, error)}): replace or remove it"
        ) from None


def _reason(picture: Picture, error: Exception) -> str:
    if isinstance(picture.data, Path) and not picture.data.exists():
        return "its link leads nowhere" if picture.data.is_symlink() else "it is not there"
    if isinstance(error, UnidentifiedImageError):
        is_pointer = isinstance(picture.data, Path) and is_lfs_pointer(picture.data)
        return "a pointer of Git LFS: git lfs pull fetches the file" if is_pointer else "of no known format"
    return " ".join(str(error).split())


def _from_file(file: Image.Image, size: int) -> tuple[np.ndarray, _Facts]:
    if Image.MAX_IMAGE_PIXELS and file.width * file.height > Image.MAX_IMAGE_PIXELS:
        raise ValueError(f"{file.width} × {file.height} px, more than {Image.MAX_IMAGE_PIXELS:,} in all")
    first_frame = file.format in _SEVERAL_FRAMES and getattr(file, "n_frames", 1) > 1
    is_deep = not file.mode.startswith(_DEEP) and any(
        _16_BITS.search(str(tile.args)) for tile in getattr(file, "tile", ())
    )
    image, turned = _upright(file)
    upper_bits = max(most for _, most in _extrema(image)) if is_deep else None
    opaque, flattened = _opaque(image)
    return _array(opaque, size), _Facts(image.size, turned, flattened, first_frame, upper_bits)


def _extrema(image: Image.Image) -> Any:
    """The smallest and largest value of each channel but that of transparency."""
    return [image.getchannel(name).getextrema() for name in image.getbands() if name != "A"]


def _upright(file: Image.Image) -> tuple[Image.Image, bool]:
    """The picture as its camera was held."""
    file.load()
    if "exif" not in file.info or file.format == "TIFF":  # which Pillow turns itself
        return file, False
    turned = file.getexif().get(0x0112, 1) not in (0, 1)
    return (ImageOps.exif_transpose(file) if turned else file), turned


def _opaque(image: Image.Image) -> tuple[Image.Image, bool]:
    """Grey, RGB or deep; what is transparent shows white. Whether anything was."""
    grey = image.mode in _GREY
    if (image.mode not in _WITH_ALPHA and "transparency" not in image.info) or image.mode.startswith(_DEEP):
        if image.mode.startswith(_DEEP):
            return image, False
        return image.convert("L" if grey else "RGB") if image.mode not in ("L", "RGB") else image, False
    layered = image.convert("LA" if grey else "RGBA")
    alpha = layered.getchannel("A")
    colours = layered.convert("L" if grey else "RGB")
    if alpha.getextrema()[0] == 255:
        return colours, False
    canvas = Image.new(colours.mode, image.size, "white")
    canvas.paste(colours, mask=alpha)
    return canvas, True


def _array(image: Image.Image, size: int) -> np.ndarray:
    """`[h, w]` or `[h, w, 3]`; deep pictures keep their values."""
    if image.mode.startswith(_DEEP):
        array = np.asarray(image)
        if not size:
            return array
        image = Image.fromarray(array.astype(np.float32))
    return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR) if size else image)


def _from_pixels(where: str, pixels: np.ndarray, size: int) -> tuple[np.ndarray, _Facts]:
    """Pixels as they are: `[h, w]`, `[h, w, 1]`, `[h, w, 3]` or `[h, w, 4]`."""
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    if pixels.dtype == bool:
        pixels = pixels.astype(np.uint8) * 255
    if (
        pixels.ndim not in (2, 3)
        or (pixels.ndim == 3 and pixels.shape[2] not in (3, 4))
        or pixels.dtype.kind not in "uif"
    ):
        raise BadInput(
            f"{where} is no picture: an array of {pixels.dtype} {list(pixels.shape)}; [height, width] is one, "
            f"alone or with 1, 3 or 4 channels"
        )
    facts = _Facts((pixels.shape[1], pixels.shape[0]))
    if pixels.dtype == np.uint8:
        image, flattened = _opaque(Image.fromarray(pixels)) if size or pixels.shape[2:] == (4,) else (None, False)
        array = pixels if image is None else _array(image, size)
        return array, _Facts(facts.size, flattened=flattened)
    if pixels.shape[2:] == (4,):
        raise BadInput(f"{where} has 4 channels of {pixels.dtype}: give transparent pictures as bytes")
    if size:
        layers = [pixels] if pixels.ndim == 2 else list(pixels.transpose(2, 0, 1))
        resized = [_array(Image.fromarray(layer.astype(np.float32)), size) for layer in layers]
        pixels = resized[0] if pixels.ndim == 2 else np.stack(resized, 2)
    return pixels, facts


def _same_size(picture: Picture, array: np.ndarray, seen: Decoded) -> None:
    if seen.first is None:
        seen.first = (picture.where, array.shape[:2])
    elif array.shape[:2] != seen.first[1]:
        height, width = seen.first[1]
        raise BadInput(
            f"{picture.where} is {array.shape[1]} × {array.shape[0]} px, the first image is {width} × {height}: "
            f"set --image_size to resize them all"
        )


def _depth(deep: list[np.ndarray], where: str) -> tuple[float, str]:
    """The factor that scales deep pictures to bytes, and what was taken for their depth."""
    if not deep:
        return 1.0, ""
    low, high = (float(most([most(array) for array in deep])) for most in (np.min, np.max))  # which pass NaN on
    floats = all(array.dtype.kind == "f" for array in deep)
    beyond = (floats and 1 < high < 2) or high >= 1 << _DEPTHS[-1]  # 0–1 overshot, of which bytes would keep two levels
    if not np.isfinite([low, high]).all() or low < 0 or beyond:
        raise BadInput(
            f"{where}: pictures hold values from {low:g} to {high:g}: scale them to 0–1, or to whole numbers from 0 to "
            f"255 or 65535"
        )
    if floats and high <= 1:
        return 255.0, f"{len(deep):,} float pictures are scaled from 0–1"
    bits = next(bits for bits in _DEPTHS if high < 1 << bits)
    return 255 / ((1 << bits) - 1), f"{len(deep):,} pictures hold values up to {high:g}: they are taken for {bits} bits"


def _in_threads(one: Callable[[Picture], Any], pictures: Iterable[Picture]) -> Iterator[tuple[Picture, Any]]:
    """`one` of each picture, in order; few are held at a time that are not decoded yet."""
    source = iter(pictures)

    def chunk(part: list[Picture]) -> list[tuple[Picture, Any]]:
        return [(picture, one(picture)) for picture in part]

    with ThreadPoolExecutor(cores()) as pool:
        waiting: deque[Future[list[tuple[Picture, Any]]]] = deque()
        while part := list(islice(source, _CHUNK)):
            waiting.append(pool.submit(chunk, part))
            if len(waiting) > 32:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()
