"""Features of images, for distances between sets of images.

Inception's weights, which published FID and KID use, are a download that this package does not make. Here a
small classifier is trained on the labels of the data's training part; of data without labels, the features
are the principal components of the pixels. Figures over different features are not comparable, and neither
are these with published ones.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from infogan_fast.analysis.tables import Floats, Ints
from infogan_fast.data import ImageSet

SIDE = 32
"""Pixels that images are resized to."""
TRAINED_ON = 20_000
"""Images that a classifier, or the components, are fitted to at most."""
_EPOCHS, _BATCH, _COMPONENTS = 4, 128, 64


@dataclass(frozen=True)
class Features:
    """What maps images to features.

    name: in words.
    of: images uint8 [N, C, S, S] to float64 [N, F].
    read: images to label numbers [N], in the order of ``labels``; None without labels.
    labels: values of the data's labels, ascending.
    """

    name: str
    of: Callable[[Tensor], Floats]
    read: Callable[[Tensor], Ints] | None
    labels: tuple[int, ...]


class _Classifier(nn.Module):
    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, 32, 5),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 5),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(64 * 25, 128),
            nn.ReLU(),
        )
        self.head = nn.Linear(128, classes)


def fit_features(train: ImageSet, device: torch.device, *, seed: int = 0) -> Features:
    """Features that suit the images of a training part.

    Args:
        train: with labels or without.
        device: to compute on.
        seed: of the classifier's weights and the order of its images.
    """
    chosen = torch.arange(min(TRAINED_ON, len(train.images))) * len(train.images)
    chosen = chosen // min(TRAINED_ON, len(train.images))
    images = _resized(train.images[chosen], device)
    if train.labels is None or len(torch.unique(train.labels)) < 2:
        return _components(images, device)
    values, numbers = torch.unique(train.labels[chosen], return_inverse=True)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        network = _Classifier(images.shape[1], len(values)).to(device)
        _train(network, images, numbers.to(device))

    def each(images: Tensor, compute: Callable[[Tensor], Tensor]) -> NDArray[Any]:
        with torch.no_grad():
            return torch.cat([compute(_resized(part, device)).cpu() for part in images.split(500)]).numpy()

    return Features(
        f"128 features of a classifier trained on {len(chosen):,} labelled images, seed {seed}",
        lambda images: each(images, network.body).astype(np.float64),
        lambda images: each(images, lambda part: network.head(network.body(part)).argmax(1)),
        tuple(values.tolist()),
    )


def _train(network: _Classifier, images: Tensor, labels: Tensor) -> None:
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9, nesterov=True)
    batches = -(-len(images) // _BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, _EPOCHS * batches)
    for _ in range(_EPOCHS):
        for chosen in torch.randperm(len(images)).to(images.device).split(_BATCH):
            loss = functional.cross_entropy(network.head(network.body(images[chosen])), labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    network.eval()


def _components(images: Tensor, device: torch.device) -> Features:
    pixels = images.flatten(1).double()
    mean = pixels.mean(0)
    count = min(_COMPONENTS, pixels.shape[1], max(1, len(pixels) - 1))
    _, axes = torch.linalg.eigh((pixels - mean).T @ (pixels - mean))
    axes = axes[:, -count:]

    def of(images: Tensor) -> Floats:
        parts = [(_resized(part, device).flatten(1).double() - mean) @ axes for part in images.split(500)]
        result: Floats = torch.cat(parts).cpu().numpy()
        return result

    return Features(f"{count} principal components of the pixels", of, None, ())


def _resized(images: Tensor, device: torch.device) -> Tensor:
    result = images.to(device).float() / 255
    if result.shape[-1] == SIDE:
        return result
    return functional.interpolate(result, (SIDE, SIDE), mode="bilinear", antialias=True)
