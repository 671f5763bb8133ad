"""Posters as pictures for people: un-whitened patches faded into one image (METHOD: rendering)."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from ppodd.datasets import Whitening
from ppodd.posters.layout import Layout
from ppodd.posters.patches import Patches, fade_blend

_CLIP = 4.0  # standard deviations around the mean
_GAP = 4  # px between the posters of a strip


def render(poster: torch.Tensor, layout: Layout, whitening: Whitening) -> bytes:
    """PNG of a poster `[C, H, W]`: un-whiten each patch, fade-blend, clip at mean ± 4 std, stretch to 0–255."""
    poster = poster.detach().cpu()
    patches = whitening.unwhiten(Patches(layout, poster.device).all(poster))
    if (size := (layout.patch_height, layout.patch_width)) != patches.shape[2:]:
        patches = F.interpolate(patches, size, mode="bilinear", antialias=True)
    grid = patches.unflatten(0, (len(layout.patch_xs), len(layout.patch_ys))).transpose(0, 1)
    image = fade_blend(grid, layout.patch_xs, layout.patch_ys, layout.width, layout.height)
    mean, spread = image.mean(), _CLIP * image.std()
    image = image.clamp(mean - spread, mean + spread)
    low, high = image.min(), image.max()
    pixels = ((image - low) / (high - low).clamp(min=1e-12) * 255).round().byte().permute(1, 2, 0).numpy()
    return _png(Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels))


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def _enlarged(png: bytes, zoom: int) -> Image.Image:
    image = Image.open(io.BytesIO(png)).convert("RGB")
    return image.resize((image.width * zoom, image.height * zoom), Image.Resampling.NEAREST)


def strip(pngs: Sequence[bytes], zoom: int = 1) -> bytes:
    """Posters of successive stages side by side, oldest first, as one PNG."""
    images = [_enlarged(png, zoom) for png in pngs]
    width = sum(image.width for image in images) + _GAP * (len(images) - 1)
    canvas = np.full((images[0].height, width, 3), 255, np.uint8)
    left = 0
    for image in images:
        canvas[:, left : left + image.width] = np.asarray(image)
        left += image.width + _GAP
    return _png(Image.fromarray(canvas))


def gif(pngs: Sequence[bytes], zoom: int = 1, frame_ms: int = 600) -> bytes:
    """Posters of successive stages as an animation."""
    first, *rest = [_enlarged(png, zoom) for png in pngs]
    buffer = io.BytesIO()
    first.save(buffer, "GIF", save_all=True, append_images=rest, duration=frame_ms, loop=0)
    return buffer.getvalue()
