"""How often an epoch shows each image, where some classes are on many images and others on few."""

from typing import Literal

import numpy as np

Mode = Literal["none", "downsample", "repeat"]


def show_factors(owners: np.ndarray, labels: np.ndarray, images: int, mode: Mode,
                 threshold: float | Literal["auto"]) -> np.ndarray:
    """How often an epoch shows each image, on average.

    Guarantees: "none" shows each once; "repeat" none less often than once, "downsample" none more often; an image is shown as its
    rarest class asks, one without objects once.
    Source: repeat-factor sampling of Gupta et al. 2019, arXiv 1908.03195 (LVIS), sec. 4.2: a class on the share f of the images
    is shown max(1, sqrt(t / f)) times as often. "downsample" is its mirror image without the root, since nothing is seen
    more often than it is there: min(1, t / f).

    Args:
        owners: (T,) the place of the image of each object that counts (crowds do not).
        labels: (T,) its class.
        images: how many images there are.
        mode: `data.balance`.
        threshold: t, `data.balance_threshold`; "auto" is the share of the median class.

    Returns:
        (N,) float64, positive.
    """
    factors = np.ones(images)
    if mode == "none" or not len(labels):
        return factors
    pairs = np.unique(np.stack([labels, owners]), axis=1)  # a class counts once on an image
    _, place, counts = np.unique(pairs[0], return_inverse=True, return_counts=True)
    share = counts / images
    t = float(np.median(share)) if threshold == "auto" else threshold
    of_class = np.maximum(1, np.sqrt(t / share)) if mode == "repeat" else np.minimum(1, t / share)
    rarest = np.zeros(images)
    np.maximum.at(rarest, pairs[1], of_class[place])
    return np.where(rarest > 0, rarest, factors)


def boxes_shown(owners: np.ndarray, labels: np.ndarray, factors: np.ndarray, classes: int) -> np.ndarray:
    """(K,) how many boxes of each label 1..K an epoch shows, on average."""
    return np.bincount(labels, weights=factors[owners], minlength=classes + 1)[1:]
