"""3×3 convolutions of the ConvNet: forward, backward, and both along a direction in parameter space.

Each kind has a domain of its own, which images, weights and gradients of maps enter once, however many products they
then take part in. Nothing here is in a graph.

Along a direction an image and its tangent are one batch, the tangent first, `[ẋ; x]`; the gradient of a map and its
tangent as well, the gradient first, `[g; ġ]`. So one convolution makes two products, and what pairs the two batches
item by item is the product rule: `ẋ ⊗ g + x ⊗ ġ`, the tangent of the weight's gradient.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
import torch.nn.functional as F

from ppodd.training import compiled
from ppodd.training.architectures import FEW_CHANNELS, SMALL_PIXELS, WINOGRAD_CHANNELS, WINOGRAD_SIDE
from ppodd.training.precision import BF16, FLOAT32

Tensor = torch.Tensor

# Fewer channels are faster without Winograd's, its transforms being compiled or not.
_WINOGRAD_CHANNELS = {True: WINOGRAD_CHANNELS, False: 64}
_MANY_CHANNELS = 8  # of maps, where a convolution of few channels is faster


class Convolution(Protocol):
    """`y = x * W` for images `x [B, C, h, w]`, weights `W [O, C, 3, 3]` and maps `y [B, O, h', w']`.

    `inside` is the images in the domain, as the backward pass needs them.
    """

    def weight(self, weight: Tensor) -> Tensor:
        """A weight enters the domain; all weights below are in it."""

    def forward(self, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """`x * W`, and inside."""

    def backward(self, inside: Tensor, g: Tensor, weight: Tensor, to_image: bool) -> tuple[Tensor | None, Tensor]:
        """The gradients to the image, if it is wanted, and to the weight."""

    def forward_along(self, x: Tensor, weight: Tensor, weight_dot: Tensor, moves: bool) -> tuple[Tensor, Tensor]:
        """`[ẏ; y]`, and inside; `x` is `[ẋ; x]`, or the images alone where they do not move."""

    def backward_along(
        self, inside: Tensor, g: Tensor, weight: Tensor, weight_dot: Tensor, moves: bool
    ) -> tuple[Tensor, Tensor]:
        """From `[g; ġ]` to `[g; ġ]` at the image (`ġ` alone where it does not move), and the weight's `ġ`."""


def convolution(
    like: Tensor,
    channels: int,
    out: int,
    height: int,
    width: int,
    padding: int,
    groups: int = 1,
    precision: str = FLOAT32,
) -> Convolution:
    """The fastest kind for images of `height` × `width` pixels; on a GPU torch's own library chooses.

    Which of them take each of several networks as they take it alone, `same_in_company` knows beforehand.
    """
    if precision == BF16:
        return Bf16(padding, groups)
    if like.device.type == "cpu":
        functions = compiled.functions(like.dtype)
        if functions and channels <= FEW_CHANNELS and out >= _MANY_CHANNELS:
            return FewChannels(functions, padding, groups)
        tiled = padding == 1 and height % _SIDE == 0 and width % _SIDE == 0 and groups == 1
        if tiled and min(channels, out) >= _WINOGRAD_CHANNELS[functions is not None]:
            return Winograd(CompiledTiles(functions) if functions else TorchTiles())
        if functions and SmallMaps.fits(functions, channels, out, height, width, padding):
            return SmallMaps(functions, groups)
    return Direct(padding, groups)


def layout(device: torch.device) -> torch.memory_format:
    """Channels last on a CPU, where pools and sums over pixels are then vectorised along channels."""
    return torch.channels_last if device.type == "cpu" else torch.contiguous_format


def laid_out(x: Tensor) -> Tensor:
    """`x` in that layout; of one channel, by its strides too, which an operation goes by that has more of them."""
    if x.device.type == "cpu" and x.shape[1] == 1 and x.is_contiguous():
        height, width = x.shape[2:]
        return x.as_strided(x.shape, (height * width, 1, width, 1), x.storage_offset())
    return x.contiguous(memory_format=layout(x.device))


class Direct:
    """Torch's own convolution, for any number of channels and any padding; its domain is the tensors themselves."""

    def __init__(self, padding: int, groups: int = 1):
        self._padding, self._groups = padding, groups

    def weight(self, weight: Tensor) -> Tensor:
        return weight

    def forward(self, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        x = laid_out(x)
        return self._product(x, weight), x

    def backward(self, inside: Tensor, g: Tensor, weight: Tensor, to_image: bool) -> tuple[Tensor | None, Tensor]:
        to_x, to_weight, _ = self._gradients(g, inside, weight, to_image, True)
        return to_x, to_weight

    def forward_along(self, x: Tensor, weight: Tensor, weight_dot: Tensor, moves: bool) -> tuple[Tensor, Tensor]:
        y, x = self.forward(x, weight)
        if not moves:
            return torch.cat([self._product(x, weight_dot), y]), x
        half = len(x) // 2
        y[:half].add_(self._product(x[half:], weight_dot))
        return y, x

    def backward_along(
        self, inside: Tensor, g: Tensor, weight: Tensor, weight_dot: Tensor, moves: bool
    ) -> tuple[Tensor, Tensor]:
        half = len(g) // 2
        still, moving = g[:half], g[half:]
        to_x, to_weight, _ = self._gradients(g if moves else moving, inside, weight, True, True)
        to_x[-half:].add_(self._gradients(still, inside[-half:], weight_dot, True, False)[0])
        return to_x, to_weight

    def _product(self, x: Tensor, weight: Tensor) -> Tensor:
        return F.conv2d(x, weight, padding=self._padding, groups=self._groups)

    def _gradients(self, g: Tensor, x: Tensor, weight: Tensor, image: bool, to_weight: bool) -> tuple[Any, ...]:
        padding, wanted = [self._padding] * 2, [image, to_weight, False]
        return torch.ops.aten.convolution_backward(
            g, x, weight, None, [1, 1], padding, [1, 1], False, [0, 0], self._groups, wanted
        )


class Bf16(Direct):
    """Torch's own in bfloat16; its domain is bfloat16, maps and gradients outside are as they were."""

    def weight(self, weight: Tensor) -> Tensor:
        return weight.bfloat16()

    def forward(self, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        return super().forward(x.bfloat16(), weight)

    def _product(self, x: Tensor, weight: Tensor) -> Tensor:
        return super()._product(x, weight).float()

    def _gradients(self, g: Tensor, x: Tensor, weight: Tensor, image: bool, to_weight: bool) -> tuple[Any, ...]:
        found = super()._gradients(g.bfloat16(), x, weight, image, to_weight)
        return tuple(None if one is None else one.float() for one in found)


class FewChannels(Direct):
    """From images of few channels to maps of many, compiled.

    Torch's takes up to five times as long to the image. The domain is padded images `[B, h, w, G·C]`, and weights
    `[G, 9, C, O]`.
    """

    def __init__(self, functions: compiled.Functions, padding: int, groups: int = 1):
        super().__init__(padding, groups)
        self._do = functions

    def weight(self, weight: Tensor) -> Tensor:
        """`[G·O, C, 3, 3]` → `[G, 9, C, O]`."""
        return weight.reshape(self._groups, -1, weight.shape[1], 9).permute(0, 3, 2, 1).contiguous()

    def forward(self, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        padded = F.pad(x.permute(0, 2, 3, 1), (0, 0, *[self._padding] * 4))
        return self._product(padded, weight), padded

    def _product(self, x: Tensor, weight: Tensor) -> Tensor:
        maps = x.new_empty(len(x), x.shape[1] - 2, x.shape[2] - 2, self._groups * weight.shape[-1])
        self._do.few_forward(self._size(x, weight), x, weight, maps)
        return maps.permute(0, 3, 1, 2)

    def _gradients(self, g: Tensor, x: Tensor, weight: Tensor, image: bool, to_weight: bool) -> tuple[Any, ...]:
        g, images, weights = laid_out(g), None, None
        size = self._size(g, weight, x.shape[1:])
        if image:
            sides = (side - 2 * self._padding for side in x.shape[1:3])
            images = x.new_empty(len(g), *sides, x.shape[3])
            self._do.few_image(size, g, self._by_taps(weight), images)
            images = images.permute(0, 3, 1, 2)
        if to_weight:
            weights = _as_given(weight)
            self._do.few_weight(size, x, g, weights)
        return images, weights, None

    def _by_taps(self, weight: Tensor) -> Tensor:
        """`[G, 9, C, O]` → `[G, O, 9·C]`, the last filled up with zeros to whole vectors."""
        taps = weight.flatten(1, 2).mT
        return F.pad(taps, (0, -taps.shape[-1] % self._do.lanes)).contiguous()

    def _size(self, maps: Tensor, weight: Tensor, shape: torch.Size | None = None) -> compiled.FewChannelInput:
        height, width, _ = shape or maps.shape[1:]
        channels, out = weight.shape[2:]
        threads = torch.get_num_threads()
        return compiled.FewChannelInput(len(maps), height, width, self._groups, channels, out, self._padding, threads)


def _as_given(weight: Tensor) -> Tensor:
    """Room for the gradient `[G·O, C, 3, 3]` of weights `[G, 9, C, O]`."""
    groups, _, channels, out = weight.shape
    return weight.new_empty(groups * out, channels, 3, 3)


class SmallMaps(Direct):
    """From and to maps of few pixels and whole vectors of channels, padding 1, compiled.

    Torch's takes up to three times as long, of which much is its preparations. The domain is weights `[G, 9, C, O]`.
    """

    def __init__(self, functions: compiled.Functions, groups: int = 1):
        super().__init__(1, groups)
        self._do = functions

    @staticmethod
    def fits(functions: compiled.Functions, channels: int, out: int, height: int, width: int, padding: int) -> bool:
        """Whether it can do these, and faster."""
        return padding == 1 and _whole(functions, channels, out) and height * width <= SMALL_PIXELS

    def weight(self, weight: Tensor) -> Tensor:
        """`[G·O, C, 3, 3]` → `[G, 9, C, O]`."""
        return weight.reshape(self._groups, -1, weight.shape[1], 9).permute(0, 3, 2, 1).contiguous()

    def _product(self, x: Tensor, weight: Tensor) -> Tensor:
        return self._products(x, weight, False)

    def _products(self, x: Tensor, weight: Tensor, mirrored: bool) -> Tensor:
        count, _, height, width = x.shape
        maps = x.new_empty(count, height, width, self._groups * weight.shape[-1]).permute(0, 3, 1, 2)
        self._do.small_product(self._size(x, weight, mirrored), x, weight, maps)
        return maps

    def _gradients(self, g: Tensor, x: Tensor, weight: Tensor, image: bool, to_weight: bool) -> tuple[Any, ...]:
        g, weights = laid_out(g), None
        images = self._products(g, weight.mT.contiguous(), True) if image else None
        if to_weight:
            weights = _as_given(weight)
            self._do.small_weight(self._size(x, weight, False), x, g, weights)
        return images, weights, None

    def _size(self, x: Tensor, weight: Tensor, mirrored: bool) -> compiled.Small:
        count, _, height, width = x.shape
        channels, out = weight.shape[2:]
        threads = torch.get_num_threads()
        return compiled.Small(count, height, width, self._groups, channels, out, mirrored, threads)


_SIDE = WINOGRAD_SIDE  # of the tile of a map; an image's is wider by 2, and overlaps its neighbours by as much
_WIDE = _SIDE + 2


class Winograd:
    """Winograd's F(4×4, 3×3): a quarter of the multiplications, for padding 1 and sides that are multiples of 4.

    Lavin and Gray, arXiv 1509.09308: for a 6×6 tile `d` of the padded image, `y = Aᵀ [(G k Gᵀ) ⊙ (Bᵀ d B)] A`. The
    gradients are the same with the transforms transposed, so that one transform of an image serves the product and
    the weight's gradient, and one of a map's gradient serves both. Rounding errors are about four times those of a
    direct convolution. The domain is `[36, N, C]` (`N` tiles), `[36, C, O]` for weights: products are of matrices.
    It is for one network.
    """

    def __init__(self, tiles: Tiles):
        self._tiles = tiles

    def weight(self, weight: Tensor) -> Tensor:
        """`G k Gᵀ`: `[O, C, 3, 3]` → `[36, C, O]`."""
        return _transform(_WEIGHT, weight.permute(2, 3, 1, 0))

    def forward(self, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        inside = self._tiles.image_inside(x)
        return self._tiles.map_outside(self._tiles.product(inside.flatten(1, -2), weight), inside), inside

    def backward(self, inside: Tensor, g: Tensor, weight: Tensor, to_image: bool) -> tuple[Tensor | None, Tensor]:
        g = self._tiles.map_inside(g)
        to_x = None
        if to_image:
            to_x = self._tiles.image_outside(self._tiles.product(g.flatten(1, -2), weight, mirrored=True), inside)
        return to_x, self._weight_outside(inside, g)

    def forward_along(self, x: Tensor, weight: Tensor, weight_dot: Tensor, moves: bool) -> tuple[Tensor, Tensor]:
        inside = self._tiles.image_inside(x)
        tiles = inside.flatten(1, -2)
        if moves:
            maps = self._tiles.product(tiles, weight)
            half = maps.shape[1] // 2
            self._tiles.add_product(maps[:, :half], tiles[:, half:], weight_dot)
        else:
            maps = torch.cat([self._tiles.product(tiles, weight_dot), self._tiles.product(tiles, weight)], 1)
        return self._tiles.map_outside(maps, inside), inside

    def backward_along(
        self, inside: Tensor, g: Tensor, weight: Tensor, weight_dot: Tensor, moves: bool
    ) -> tuple[Tensor, Tensor]:
        g = self._tiles.map_inside(g)
        half = g.shape[1] // 2
        wanted = g if moves else g[:, half:]
        images = self._tiles.product(wanted.flatten(1, -2), weight, mirrored=True)
        of_moving = images[:, images.shape[1] // 2 :] if moves else images
        self._tiles.add_product(of_moving, g[:, :half].flatten(1, -2), weight_dot, mirrored=True)
        return self._tiles.image_outside(images, inside), self._weight_outside(inside, wanted)

    def _weight_outside(self, inside: Tensor, g: Tensor) -> Tensor:
        """The weight's gradient `[O, C, 3, 3]` from images and gradients of maps, both inside."""
        weights = self._tiles.weight_product(inside.flatten(1, -2), g.flatten(1, -2)).unflatten(0, (_WIDE, _WIDE))
        return _transform(_WEIGHT.T, weights).unflatten(0, (3, 3)).permute(3, 2, 0, 1)


class Tiles(Protocol):
    """Between maps and their tiles in Winograd's domain, `[36, B, h/4, w/4, C]` or flat, `[36, N, C]`; products there.

    With weights `[36, C, O]`, or with their transposes where these are `mirrored`.
    """

    def image_inside(self, x: Tensor) -> Tensor:
        """`Bᵀ d B` of each tile: `[B, C, h, w]` → `[36, B, h/4, w/4, C]`."""

    def image_outside(self, images: Tensor, inside: Tensor) -> Tensor:
        """A gradient `[36, N, C]` to tiles as they are inside → to the image `[B, C, h, w]`."""

    def map_inside(self, g: Tensor) -> Tensor:
        """`A g Aᵀ` of each tile: `[B, O, h, w]` → `[36, B, h/4, w/4, O]`."""

    def map_outside(self, maps: Tensor, inside: Tensor) -> Tensor:
        """`[36, N, O]`, tiles as in `inside` → `[B, O, h, w]`."""

    def product(self, tiles: Tensor, weight: Tensor, mirrored: bool = False) -> Tensor:
        """Tiles by weights."""

    def add_product(self, to: Tensor, tiles: Tensor, weight: Tensor, mirrored: bool = False) -> None:
        """The same, added to other tiles."""

    def weight_product(self, images: Tensor, maps: Tensor) -> Tensor:
        """The gradient `[36, C, O]` of the weights."""


class CompiledTiles:
    """By functions of `kernels.c`; products by torch's, where channels are no whole vectors."""

    def __init__(self, functions: compiled.Functions):
        self._do, self._torchs = functions, TorchTiles()

    def image_inside(self, x: Tensor) -> Tensor:
        """See `Tiles`."""
        return self._inside(self._do.image_inside, x)

    def map_inside(self, g: Tensor) -> Tensor:
        """See `Tiles`."""
        return self._inside(self._do.map_inside, g)

    def image_outside(self, images: Tensor, inside: Tensor) -> Tensor:
        """See `Tiles`."""
        return self._outside(self._do.image_outside, images, inside)

    def map_outside(self, maps: Tensor, inside: Tensor) -> Tensor:
        """See `Tiles`."""
        return self._outside(self._do.map_outside, maps, inside)

    def _inside(self, function: compiled.Function, maps: Tensor) -> Tensor:
        count, channels, height, width = maps.shape
        inside = maps.new_empty(_WIDE**2, count, height // _SIDE, width // _SIDE, channels)
        function(compiled.size(maps), laid_out(maps), inside)
        return inside

    def _outside(self, function: compiled.Function, tiles: Tensor, inside: Tensor) -> Tensor:
        rows, columns = inside.shape[2:-1]
        count, channels = tiles.shape[1] // (rows * columns), tiles.shape[2]
        maps = tiles.new_empty(count, _SIDE * rows, _SIDE * columns, channels).permute(0, 3, 1, 2)
        function(compiled.size(maps), tiles.contiguous(), maps)
        return maps

    def product(self, tiles: Tensor, weight: Tensor, mirrored: bool = False) -> Tensor:
        """See `Tiles`."""
        if not _whole(self._do, *weight.shape[1:]):
            return self._torchs.product(tiles, weight, mirrored)
        maps = tiles.new_empty(*tiles.shape[:2], weight.shape[1 if mirrored else 2])
        self._do.narrow_product(_narrow(tiles, maps, mirrored=mirrored), tiles, weight, maps)
        return maps

    def add_product(self, to: Tensor, tiles: Tensor, weight: Tensor, mirrored: bool = False) -> None:
        """See `Tiles`."""
        if not _whole(self._do, *weight.shape[1:]):
            self._torchs.add_product(to, tiles, weight, mirrored)
        else:
            self._do.narrow_product(_narrow(tiles, to, mirrored=mirrored, adds=True), tiles, weight, to)

    def weight_product(self, images: Tensor, maps: Tensor) -> Tensor:
        """See `Tiles`."""
        if not _whole(self._do, images.shape[-1], maps.shape[-1]):
            return self._torchs.weight_product(images, maps)
        weights = images.new_empty(len(images), images.shape[-1], maps.shape[-1])
        self._do.narrow_weight(_narrow(images, maps), images, maps, weights)
        return weights


def _whole(functions: compiled.Functions, *channels: int) -> bool:
    """Whether so many channels are whole vectors."""
    return all(count % functions.lanes == 0 for count in channels)


def _narrow(images: Tensor, maps: Tensor, mirrored: bool = False, adds: bool = False) -> compiled.Narrow:
    """The size of a product from images to maps, both `[batch, rows, channels]`, a batch's rows one after another."""
    batch, rows, channels = images.shape
    apart, threads = (images.stride(0), maps.stride(0)), torch.get_num_threads()
    return compiled.Narrow(batch, rows, channels, maps.shape[-1], *apart, mirrored, adds, threads)


class TorchTiles:
    """In torch's operations."""

    def image_inside(self, x: Tensor) -> Tensor:
        """`Bᵀ d B` of each tile: `[B, C, h, w]` → `[36, B, h/4, w/4, C]`."""
        padded = F.pad(x.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1))
        tiles = padded.unfold(1, _WIDE, _SIDE).unfold(2, _WIDE, _SIDE).permute(4, 5, 0, 1, 2, 3)
        return _transform(_IMAGE, tiles)

    def image_outside(self, images: Tensor, inside: Tensor) -> Tensor:
        """A gradient `[36, N, C]` to tiles as they are inside → to the image `[B, C, h, w]`."""
        tiles = _transform(_IMAGE.T, _unflattened(images, inside)).unflatten(0, (_WIDE, _WIDE))
        return _overlap_add(tiles.permute(2, 3, 0, 4, 1, 5)).permute(0, 3, 1, 2)

    def map_inside(self, g: Tensor) -> Tensor:
        """`A g Aᵀ` of each tile: `[B, O, h, w]` → `[36, B, h/4, w/4, O]`."""
        tiles = g.permute(0, 2, 3, 1).unflatten(2, (-1, _SIDE)).unflatten(1, (-1, _SIDE)).permute(2, 4, 0, 1, 3, 5)
        return _transform(_MAP.T, tiles)

    def map_outside(self, maps: Tensor, inside: Tensor) -> Tensor:
        """`[36, N, O]`, tiles as in `inside` → `[B, O, h, w]`."""
        tiles = _transform(_MAP, _unflattened(maps, inside)).unflatten(0, (_SIDE, _SIDE))
        return tiles.permute(2, 3, 0, 4, 1, 5).contiguous().flatten(3, 4).flatten(1, 2).permute(0, 3, 1, 2)

    def product(self, tiles: Tensor, weight: Tensor, mirrored: bool = False) -> Tensor:
        """See `Tiles`."""
        return torch.bmm(tiles, weight.mT if mirrored else weight)

    def add_product(self, to: Tensor, tiles: Tensor, weight: Tensor, mirrored: bool = False) -> None:
        """See `Tiles`."""
        to.baddbmm_(tiles, weight.mT if mirrored else weight)

    def weight_product(self, images: Tensor, maps: Tensor) -> Tensor:
        """See `Tiles`."""
        return torch.bmm(images.mT, maps)


def _square(rows: list[list[float]]) -> Tensor:
    """A transform of both axes of a tile, laid out as one: `[out², in²]`."""
    matrix = torch.tensor(rows, dtype=torch.float64)
    return torch.kron(matrix, matrix)


_IMAGE = _square([
    [4, 0, -5, 0, 1, 0],
    [0, -4, -4, 1, 1, 0],
    [0, 4, -4, -1, 1, 0],
    [0, -2, -1, 2, 1, 0],
    [0, 2, -1, -2, 1, 0],
    [0, 4, 0, -5, 0, 1],
])  # Bᵀ  # fmt: skip
_WEIGHT = _square([
    [1 / 4, 0, 0],
    [-1 / 6, -1 / 6, -1 / 6],
    [-1 / 6, 1 / 6, -1 / 6],
    [1 / 24, 1 / 12, 1 / 6],
    [1 / 24, -1 / 12, 1 / 6],
    [0, 0, 1],
])  # G  # fmt: skip
_MAP = _square([[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]])  # Aᵀ


def _transform(matrix: Tensor, tiles: Tensor) -> Tensor:
    """Apply `matrix [out², in²]` to tiles `[in, in, …]`: `[out², …]`."""
    return (matrix.to(tiles) @ tiles.reshape(matrix.shape[1], -1)).view(-1, *tiles.shape[2:])


def _unflattened(products: Tensor, inside: Tensor) -> Tensor:
    """`[36, N, C]` → `[6, 6, B', i, j, C]`, tiles as in `inside`, of as many images as there are."""
    return products.view(_WIDE, _WIDE, -1, *inside.shape[2:-1], products.shape[-1])


def _overlap_add(tiles: Tensor) -> Tensor:
    """Sum tiles `[B, i, 6, j, 6, C]` to the image `[B, 4i, 4j, C]` that they were cut from, without its padding."""
    count, rows, _, columns, _, channels = tiles.shape
    padded = tiles.new_zeros(count, rows + 1, _SIDE, columns + 1, _SIDE, channels)
    padded[:, :rows, :, :columns] = tiles[:, :, :_SIDE, :, :_SIDE]
    padded[:, 1:, :2, :columns] += tiles[:, :, _SIDE:, :, :_SIDE]
    padded[:, :rows, :, 1:, :2] += tiles[:, :, :_SIDE, :, _SIDE:]
    padded[:, 1:, :2, 1:, :2] += tiles[:, :, _SIDE:, :, _SIDE:]
    return padded.flatten(3, 4).flatten(1, 2)[:, 1 : 1 + _SIDE * rows, 1 : 1 + _SIDE * columns]
