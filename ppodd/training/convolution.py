"""3×3 convolutions as bilinear maps: the product and the gradients to its factors, each a sum over pairs of factors.

Each kind has a domain of its own, which images, weights and gradients of maps enter once, however many products they
then take part in. Nothing here is in a graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
import torch.nn.functional as F

Tensor = torch.Tensor
Pairs = Sequence[tuple[Tensor, Tensor]]

_WINOGRAD_CHANNELS = 64  # fewer are faster without


class Convolution(Protocol):
    """`y = x * W` for images `x [B, C, h, w]`, weights `W [O, C, 3, 3]` and maps `y [B, O, h', w']`."""

    def image(self, x: Tensor) -> Tensor:
        """An image enters the domain."""

    def weight(self, weight: Tensor) -> Tensor:
        """A weight enters the domain."""

    def map(self, g: Tensor) -> Tensor:
        """The gradient of a map enters the domain."""

    def product(self, pairs: Pairs) -> Tensor:
        """`Σ x * W` over pairs (image, weight)."""

    def to_image(self, pairs: Pairs) -> Tensor:
        """The gradient to the image: a sum over pairs (gradient of the map, weight)."""

    def to_weight(self, pairs: Pairs) -> Tensor:
        """The gradient to the weight: a sum over pairs (image, gradient of the map)."""


def convolution(device: torch.device, channels: int, out: int, height: int, width: int, padding: int) -> Convolution:
    """The fastest kind for images of `height` × `width` pixels; on a GPU torch's own library chooses."""
    tiled = padding == 1 and height % _SIDE == 0 and width % _SIDE == 0
    if device.type == "cpu" and tiled and min(channels, out) >= _WINOGRAD_CHANNELS:
        return Winograd()
    return Direct(channels, height, width, padding)


def layout(device: torch.device) -> torch.memory_format:
    """Channels last on a CPU, where pools and sums over pixels are then vectorised along channels."""
    return torch.channels_last if device.type == "cpu" else torch.contiguous_format


class Direct:
    """Torch's own convolution, for any number of channels and any padding; its domain is the tensors themselves."""

    def __init__(self, channels: int, height: int, width: int, padding: int):
        self._image, self._padding = (channels, height, width), padding

    def image(self, x: Tensor) -> Tensor:
        return x.contiguous(memory_format=layout(x.device))

    weight = map = image

    def product(self, pairs: Pairs) -> Tensor:
        return _total([F.conv2d(x, weight, padding=self._padding) for x, weight in pairs])

    def to_image(self, pairs: Pairs) -> Tensor:
        return _total([self._backward(g, _empty(g, len(g), *self._image), weight, 0) for g, weight in pairs])

    def to_weight(self, pairs: Pairs) -> Tensor:
        return _total([self._backward(g, x, _empty(g, g.shape[1], x.shape[1], 3, 3), 1) for x, g in pairs])

    def _backward(self, g: Tensor, x: Tensor, weight: Tensor, to: int) -> Tensor:
        padding, wanted = [self._padding] * 2, [to == 0, to == 1, False]
        gradients = torch.ops.aten.convolution_backward(
            g, x, weight, None, [1, 1], padding, [1, 1], False, [0, 0], 1, wanted
        )
        return gradients[to]


_SIDE = 4  # of the tile of a map; an image's is wider by 2, and overlaps its neighbours by as much
_WIDE = _SIDE + 2


class Winograd:
    """Winograd's F(4×4, 3×3): a quarter of the multiplications, for padding 1 and sides that are multiples of 4.

    Lavin and Gray, arXiv 1509.09308: for a 6×6 tile `d` of the padded image, `y = Aᵀ [(G k Gᵀ) ⊙ (Bᵀ d B)] A`. The
    gradients are the same with the transforms transposed, so that one transform of an image serves the product and
    the weight's gradient, and one of a map's gradient serves both. Rounding errors are about four times those of a
    direct convolution. The domain is `[36, N, C]` (`N` tiles), `[36, C, O]` for weights: products are of matrices.
    """

    def image(self, x: Tensor) -> Tensor:
        """`Bᵀ d B` of each tile: `[B, C, h, w]` → `[36, B, h/4, w/4, C]`."""
        padded = F.pad(x.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1))
        tiles = padded.unfold(1, _WIDE, _SIDE).unfold(2, _WIDE, _SIDE).permute(4, 5, 0, 1, 2, 3)
        return _transform(_IMAGE, tiles)

    def weight(self, weight: Tensor) -> Tensor:
        """`G k Gᵀ`: `[O, C, 3, 3]` → `[36, C, O]`."""
        return _transform(_WEIGHT, weight.permute(2, 3, 1, 0))

    def map(self, g: Tensor) -> Tensor:
        """`A g Aᵀ` of each tile: `[B, O, h, w]` → `[36, B, h/4, w/4, O]`."""
        tiles = g.permute(0, 2, 3, 1).unflatten(2, (-1, _SIDE)).unflatten(1, (-1, _SIDE)).permute(2, 4, 0, 1, 3, 5)
        return _transform(_MAP.T, tiles)

    def product(self, pairs: Pairs) -> Tensor:
        maps = _sum_of_products([(x.flatten(1, -2), weight) for x, weight in pairs])
        tiles = _transform(_MAP, _unflattened(maps, pairs)).unflatten(0, (_SIDE, _SIDE))
        return tiles.permute(2, 3, 0, 4, 1, 5).contiguous().flatten(3, 4).flatten(1, 2).permute(0, 3, 1, 2)

    def to_image(self, pairs: Pairs) -> Tensor:
        images = _sum_of_products([(g.flatten(1, -2), weight.transpose(1, 2)) for g, weight in pairs])
        tiles = _transform(_IMAGE.T, _unflattened(images, pairs)).unflatten(0, (_WIDE, _WIDE))
        return _overlap_add(tiles.permute(2, 3, 0, 4, 1, 5)).permute(0, 3, 1, 2)

    def to_weight(self, pairs: Pairs) -> Tensor:
        weights = _sum_of_products([(x.flatten(1, -2).transpose(1, 2), g.flatten(1, -2)) for x, g in pairs])
        return _transform(_WEIGHT.T, weights.unflatten(0, (_WIDE, _WIDE))).unflatten(0, (3, 3)).permute(3, 2, 0, 1)


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


def _sum_of_products(pairs: Pairs) -> Tensor:
    total = torch.bmm(*pairs[0])
    for a, b in pairs[1:]:
        total.baddbmm_(a, b)
    return total


def _unflattened(products: Tensor, pairs: Pairs) -> Tensor:
    """`[36, N, C]` → `[6, 6, B, i, j, C]`, tiles as in the pairs' first factors."""
    return products.view(_WIDE, _WIDE, *pairs[0][0].shape[1:-1], -1)


def _overlap_add(tiles: Tensor) -> Tensor:
    """Sum tiles `[B, i, 6, j, 6, C]` to the image `[B, 4i, 4j, C]` that they were cut from, without its padding."""
    count, rows, _, columns, _, channels = tiles.shape
    padded = tiles.new_zeros(count, rows + 1, _SIDE, columns + 1, _SIDE, channels)
    padded[:, :rows, :, :columns] = tiles[:, :, :_SIDE, :, :_SIDE]
    padded[:, 1:, :2, :columns] += tiles[:, :, _SIDE:, :, :_SIDE]
    padded[:, :rows, :, 1:, :2] += tiles[:, :, :_SIDE, :, _SIDE:]
    padded[:, 1:, :2, 1:, :2] += tiles[:, :, _SIDE:, :, _SIDE:]
    return padded.flatten(3, 4).flatten(1, 2)[:, 1 : 1 + _SIDE * rows, 1 : 1 + _SIDE * columns]


def _total(parts: list[Tensor]) -> Tensor:
    for part in parts[1:]:
        parts[0] += part
    return parts[0]


def _empty(like: Tensor, *shape: int) -> Tensor:
    return torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=layout(like.device))
