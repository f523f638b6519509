"""Draw training samples as the net sees them: augmented, scaled, with their boxes."""

from collections.abc import Sequence
from itertools import chain, islice
from pathlib import Path

import cv2
import numpy as np

from ssd_lib.annotations.fixed_set import load_fixed
from ssd_lib.data.dataset import DetectionDataset, Key
from ssd_lib.data.loader import batches_from
from ssd_lib.errors import visible
from ssd_lib.evaluate.drawing import CROWD_COLOUR, FONT, INK, PAPER, class_colour, draw_boxes, sheet, write_image
from ssd_lib.manifest import load_manifest
from ssd_lib.params import TrainParams, load_params
from ssd_lib.train.setup import repeat_factors_of, training_images, training_range

SAMPLES_PATH = Path("reports/samples.png")
SAMPLES, COLUMNS = 30, 6
TILE_PX, CAPTION_PX = 240, 18
CAPTION_CHARS = 38


def write_samples(dataset: DetectionDataset, factors: np.ndarray, train: TrainParams, path: Path = SAMPLES_PATH,
                  epoch: int = 0) -> None:
    """Draw the first SAMPLES samples of an epoch, in the order and with the seeds of training; after a short one the next.

    Args:
        dataset: the training images with their augmentation.
        factors: (N,) how often an epoch shows each image.
        train: batch size and seed.
        path: a .png or .jpg file.
        epoch: 0 is the first one.
    """
    batches = batches_from(factors, train.batch_size, train.seed, epoch, 0, epoch + SAMPLES)
    write_image(path, samples_sheet(dataset, list(islice(chain.from_iterable(batches), SAMPLES))))


def samples_sheet(dataset: DetectionDataset, keys: Sequence[Key]) -> np.ndarray:
    """Draw samples with their boxes and names, and below each the name of its file.

    Returns:
        (H, W, 3) uint8, RGB.
    """
    return sheet([_tile(dataset, key) for key in keys], COLUMNS)


def preview(out: Path, epoch: int) -> str:
    """Draw samples of the training images of data/fixed with the params.yaml of the current folder; return what was written."""
    params, fixed = load_params("data", "model", "train"), load_fixed("train")
    factors = repeat_factors_of(fixed, params.data)
    manifest = load_manifest()
    images = training_images(params, manifest, fixed, training_range(params, manifest, fixed))
    write_samples(images, factors, params.train, out, epoch - 1)
    return (f"{out}: the first images of epoch {epoch} as the net sees them, {params.model.image_size} px, augmentation "
            f"{params.train.augmentation}")


def _tile(dataset: DetectionDataset, key: Key) -> np.ndarray:
    sample, names = dataset[key], dataset.fixed.class_names
    shrinks = sample.image.shape[0] > TILE_PX
    image = cv2.resize(sample.image, (TILE_PX, TILE_PX), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
    labels = sample.labels.tolist()
    drawn = draw_boxes(image, sample.boxes * TILE_PX, ["crowd" if label < 0 else names[label - 1] for label in labels],
                       [CROWD_COLOUR if label < 0 else class_colour(label) for label in labels])
    caption = np.full((CAPTION_PX, TILE_PX, 3), PAPER, dtype=np.uint8)
    name = visible(dataset.fixed.file_name(sample.image_index), CAPTION_CHARS)
    return np.concatenate([drawn, cv2.putText(caption, name, (1, CAPTION_PX - 6), FONT, 0.36, INK, 1, cv2.LINE_AA)])
