"""How far the classes of a data set are from each other: by their images or by their names."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import torch

from ppodd import libraries
from ppodd.datasets import Dataset
from ppodd.errors import BadInput

_CLIP = "openai/clip-vit-base-patch32"


def means(dataset: Dataset) -> np.ndarray:
    """Euclidean distances `[K, K]` between the classes' mean training images."""
    x, y = dataset.train
    means = torch.stack([x[y == label].flatten(1).double().mean(dim=0) for label in range(dataset.spec.classes)])
    return torch.cdist(means, means, compute_mode="donot_use_mm_for_euclid_dist").cpu().numpy()


def clip(dataset: Dataset) -> np.ndarray:
    """CLIP text distances `[K, K]` of the classes' names."""
    return clip_distances(dataset.classes)


def clip_distances(names: tuple[str, ...]) -> np.ndarray:
    """1 − cosine of CLIP's last hidden text states of the class names, padded to 77 tokens and flattened.

    The model is `openai/clip-vit-base-patch32`, or the folder that `PPODD_CLIP` names.
    """
    libraries.torchvision()  # which transformers imports
    try:
        from transformers import CLIPTextModel, CLIPTokenizer
    except ImportError:
        raise BadInput(
            "class_order 'clip' needs transformers: pip install 'ppodd[clip]', or use --class_order means"
        ) from None
    folder = os.environ.get("PPODD_CLIP")
    place = folder or _CLIP

    def loaded(offline: bool) -> tuple[Any, Any]:
        kinds = CLIPTokenizer, CLIPTextModel
        tokenizer, model = (kind.from_pretrained(place, local_files_only=offline) for kind in kinds)
        return tokenizer, model.eval()

    try:
        try:
            tokenizer, model = loaded(offline=True)
        except OSError:
            if folder:
                raise
            from huggingface_hub import snapshot_download

            # fails at once where there is no network; the download of all tries for minutes
            snapshot_download(_CLIP, allow_patterns="config.json")
            tokenizer, model = loaded(offline=False)
    except (OSError, ValueError) as error:
        raise BadInput(
            f"class_order 'clip': cannot load {place} ({str(error).splitlines()[0]}): "
            f"set PPODD_CLIP to a local copy, or use --class_order means"
        ) from None
    with torch.no_grad():
        tokens = tokenizer(list(names), padding="max_length", max_length=77, truncation=True, return_tensors="pt")
        states = model(**tokens).last_hidden_state.flatten(1).double()
    states /= states.norm(dim=1, keepdim=True)
    return (1 - states @ states.T).numpy()
