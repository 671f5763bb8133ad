"""ZCA whitening as PoDD does it, and its inverse for rendering.

Each image has its mean subtracted and is scaled to unit norm (float64); the covariance of the training images, its
eigenvalues raised by 0.1 × their mean, gives one symmetric transform for training and test images alike.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.linalg
import torch

_REGULARISATION = 0.1  # of the mean eigenvalue
_CHUNK = 4096  # images


@dataclass(frozen=True)
class Whitening:
    """A data set's affine preprocessing and its inverse.

    Attributes:
        mean, std: `[C]`, each channel's normalisation, where there is no ZCA.
        forward, inverse: `[D, D]` ZCA matrices.
    """

    mean: torch.Tensor | None = None
    std: torch.Tensor | None = None
    forward: torch.Tensor | None = None
    inverse: torch.Tensor | None = None

    @property
    def arrays(self) -> dict[str, torch.Tensor]:
        """What tells it whole: `mean` and `std`, or the matrix `zca`, whose inverse undoes it."""
        if self.forward is not None:
            return {"zca": self.forward}
        assert self.mean is not None and self.std is not None
        return {"mean": self.mean, "std": self.std}

    def whiten(self, images: torch.Tensor) -> torch.Tensor:
        """Byte images `[N, C, h, w]` → float32 images of the same shape, chunk by chunk."""
        out = torch.empty(images.shape, dtype=torch.float32)
        for chunk, target in zip(images.split(_CHUNK), out.split(_CHUNK), strict=True):
            if self.forward is not None:
                torch.mm(unit_images(chunk).float(), self.forward, out=target.view(len(chunk), -1))
            else:
                assert self.mean is not None and self.std is not None
                target.copy_((chunk.float() / 255 - self.mean[:, None, None]) / self.std[:, None, None])
        return out

    def unwhiten(self, images: torch.Tensor) -> torch.Tensor:
        """Inverse of `whiten` on `[N, C, h, w]`, up to each image's mean and norm under ZCA."""
        if self.inverse is not None:
            return (images.flatten(1) @ self.inverse.to(images)).reshape(images.shape)
        assert self.mean is not None and self.std is not None
        return images * self.std[:, None, None].to(images) + self.mean[:, None, None].to(images)


def unit_images(images: torch.Tensor) -> torch.Tensor:
    """Byte images `[N, C, h, w]` → `[N, D]` float64, each of mean 0 and norm 1 (a constant image stays 0)."""
    x = images.flatten(1).double()
    x -= x.mean(dim=1, keepdim=True)
    return x.div_(x.norm(dim=1, keepdim=True).clamp(min=1e-12))


def channel_statistics(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation `[C]` of byte images `[N, C, h, w]`, scaled to [0, 1]."""
    counts = torch.stack([torch.bincount(images[:, c].flatten().int(), minlength=256) for c in range(images.shape[1])])
    levels = torch.arange(256).double() / 255
    share = counts.double() / counts.sum(1, keepdim=True)
    mean = share @ levels
    std = (share @ levels**2 - mean**2).clamp(min=1e-12).sqrt()
    return mean.float(), std.float()


def zca_cost(dimension: int, images: int) -> str:
    """What fitting costs: memory is three `D × D` matrices in float64; time grows as `N·D² + D³`."""
    gib = 3 * dimension**2 * 8 / 2**30
    # 3072 dimensions and 50,000 images took 15 s + 5 s on 2 cores
    minutes = (15 * images / 50_000 * (dimension / 3072) ** 2 + 5 * (dimension / 3072) ** 3) / 60
    return f"about {gib:.1f} GiB and {minutes:.0f} minutes on 2 cores, once: the result is cached"


def fit_zca(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """ZCA matrix and inverse (`[D, D]`, float32) of byte training images `[N, C, h, w]`.

    The covariance is summed in chunks, so memory does not grow with the images.
    """
    dimension = images[0].numel()
    covariance = torch.zeros(dimension, dimension, dtype=torch.float64)
    for chunk in images.split(_CHUNK):
        x = unit_images(chunk)
        covariance.addmm_(x.T, x)
    covariance /= len(images)
    values, vectors = scipy.linalg.eigh(covariance.numpy(), overwrite_a=True, check_finite=False)
    del covariance
    values = np.maximum(values, 0)
    values += _REGULARISATION * values.mean()
    basis = torch.from_numpy(np.ascontiguousarray(vectors))
    scale = torch.from_numpy(values)
    return tuple(((basis * scale**power) @ basis.T).float() for power in (-0.5, 0.5))  # type: ignore[return-value]
