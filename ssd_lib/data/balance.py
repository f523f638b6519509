"""Class balance: repeat factors, which say how often an epoch uses each image."""

from typing import Literal

import numpy as np

Mode = Literal["none", "downsample", "repeat"]


def repeat_factors(image_indices: np.ndarray, labels: np.ndarray, images: int, mode: Mode,
                   threshold: float | Literal["auto"]) -> np.ndarray:
    """Return how often an epoch uses each image, on average.

    Guarantees: all factors are 1 for "none", at least 1 for "repeat" and at most 1 for "downsample"; the rarest class of an
    image decides; an image without objects has the factor 1.
    Source: repeat factor sampling, Gupta et al. 2019, arXiv 1908.03195 (LVIS), sec. 4.2: a class on a share f of the images has
    the factor max(1, sqrt(t / f)). "downsample" is the counterpart for frequent classes: min(1, t / f), without the square
    root.

    Args:
        image_indices: (T,) the index of the image of each object; crowds are left out.
        labels: (T,) the class of each object.
        images: the number of images, N.
        mode: `data.balance`.
        threshold: t, `data.balance_threshold`; "auto" is the share of the median class.

    Returns:
        (N,) float64, positive.
    """
    factors = np.ones(images)
    if mode == "none" or not len(labels):
        return factors
    pairs = np.unique(np.stack([labels, image_indices]), axis=1)  # a class counts once per image
    _, class_of_pair, counts = np.unique(pairs[0], return_inverse=True, return_counts=True)
    share = counts / images
    t = float(np.median(share)) if threshold == "auto" else threshold
    of_class = np.maximum(1, np.sqrt(t / share)) if mode == "repeat" else np.minimum(1, t / share)
    rarest = np.zeros(images)
    np.maximum.at(rarest, pairs[1], of_class[class_of_pair])
    return np.where(rarest > 0, rarest, factors)


def boxes_per_epoch(image_indices: np.ndarray, labels: np.ndarray, factors: np.ndarray, classes: int) -> np.ndarray:
    """Return (K,): how many boxes of each label 1..K an epoch uses, on average."""
    return np.bincount(labels, weights=factors[image_indices], minlength=classes + 1)[1:]
