"""Drawn training samples: the first ones that the net is shown, and their boxes."""

from pathlib import Path

import numpy as np
import pytest
from support.project import ROOT

from ssd_lib.annotations.fixed_set import load_fixed
from ssd_lib.cli import main
from ssd_lib.data.dataset import DetectionDataset
from ssd_lib.data.loader import batches_from
from ssd_lib.evaluate.drawing import CROWD_COLOUR, GAP_PX, class_colour
from ssd_lib.evaluate.preview import CAPTION_PX, COLUMNS, SAMPLES, TILE_PX, samples_sheet, write_samples
from ssd_lib.images import read_image
from ssd_lib.manifest import load_manifest
from ssd_lib.params import load_params
from ssd_lib.train.setup import repeat_factors_of, training_images, training_range

STEP = TILE_PX + GAP_PX


def _tiles(page: np.ndarray) -> list[np.ndarray]:
    tall = STEP + CAPTION_PX
    return [page[top:top + TILE_PX, left:left + TILE_PX] for top in range(GAP_PX, page.shape[0] - GAP_PX, tall)
            for left in range(GAP_PX, page.shape[1] - GAP_PX, STEP)]


def test_a_sample_is_drawn_as_the_net_sees_it_with_its_boxes(dataset: DetectionDataset) -> None:
    page = samples_sheet(dataset, [(0, 0), (0, 1), (0, 2)])
    assert page.shape == (GAP_PX + STEP + CAPTION_PX, GAP_PX + 3 * STEP, 3)
    first, second, third = _tiles(page)
    dog, kite, crowd = ([(tile == colour).all(axis=2).any() for tile in (first, second, third)]
                        for colour in (class_colour(1), class_colour(2), CROWD_COLOUR))
    assert (dog, kite, crowd) == ([True, True, False], [True, False, False], [False, True, False])
    assert abs(third.mean(axis=(0, 1)) - dataset[0, 2].image.mean(axis=(0, 1))).max() < 1


def test_the_samples_are_the_first_of_training_and_go_on_into_the_next_epoch(dataset: DetectionDataset, tmp_path: Path) -> None:
    train = load_params("train", path=ROOT / "params.yaml").train
    for epoch in (0, 2):
        write_samples(dataset, np.ones(3), train, tmp_path / "a.png", epoch)
        page = read_image(tmp_path / "a.png")
        assert len(_tiles(page)) == SAMPLES
        batches = batches_from(np.ones(3), train.batch_size, train.seed, epoch, 0, epoch + SAMPLES)
        assert np.array_equal(page, samples_sheet(dataset, [key for keys in batches for key in keys][:SAMPLES]))
    assert page.shape[1] == GAP_PX + COLUMNS * STEP


def test_the_command_draws_what_params_yaml_says(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "preview", "--out", "shown.png", "--epoch", "2"]) == 0
    assert "shown.png: the first images of epoch 2 as the net sees them, 64 px, augmentation light" in capsys.readouterr().out
    params, fixed, manifest = load_params("data", "model", "train"), load_fixed("train"), load_manifest()
    images = training_images(params, manifest, fixed, training_range(params, manifest, fixed))
    write_samples(images, repeat_factors_of(fixed, params.data), params.train, workspace / "expected.png", epoch=1)
    assert (workspace / "shown.png").read_bytes() == (workspace / "expected.png").read_bytes()
    (workspace / "data" / "manifest.json").unlink()
    assert main(["data", "preview"]) == 1
