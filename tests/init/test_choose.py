"""Choices as a pure function of a look at the data."""

from typing import Any

import numpy as np
import pytest
from support.project import ROOT

from ssd_lib.init.choose import choose_input, choose_length, choose_recipe
from ssd_lib.init.look import Look
from ssd_lib.params import Params, check_params

FINETUNE, SMALL, CLASSIC = (check_params((ROOT / "recipes" / f"{name}.yaml").read_bytes(), ROOT)
                            for name in ("finetune", "small-objects", "classic-ssd300"))


def look(**changes: Any) -> Look:
    """Return a look at 200 + 60 images with their own split."""
    return Look(("voc",), 200, 60, None, {"cat": 300}, (), (640, 480), np.full((10, 2), 0.2))._replace(**changes)


def chosen(choices: list[Any]) -> dict[str, Any]:
    """Return the values of the choices."""
    return {choice.key: choice.value for choice in choices}


@pytest.mark.parametrize(("narrow", "recipe"), [(0, "finetune"), (1, "finetune"), (2, "small-objects"), (10, "small-objects")])
def test_the_recipe_follows_the_share_of_narrow_or_low_objects(narrow: int, recipe: str) -> None:
    sides = np.full((10, 2), 0.2)
    sides[:narrow, narrow % 2] = 0.03
    choice = choose_recipe(look(sides=sides), None)
    assert choice.value == recipe
    assert f"{narrow * 10}% of the objects are narrower or lower than 4% of the image" in choice.line()


def test_a_recipe_that_is_asked_for_is_taken() -> None:
    assert choose_recipe(look(sides=np.full((1, 2), 0.01)), "finetune").line() == "recipe finetune: as asked"


@pytest.mark.parametrize(("recipe", "px", "size"), [
    (FINETUNE, (640, 480), 320), (SMALL, (640, 480), 512), (SMALL, (200, 180), 448), (SMALL, (20, 30), 320),
    (FINETUNE, (20, 30), 320)])
def test_the_image_size_is_at_most_twice_that_of_the_images(recipe: Params, px: tuple[int, int], size: int) -> None:
    assert chosen(choose_input(look(image_px=px), recipe))["model.image_size"] == size


@pytest.mark.parametrize(("images", "batch"), [(1000, 8), (64, 8), (63, 7), (24, 3), (1, 2)])
def test_an_epoch_has_eight_steps(images: int, batch: int) -> None:
    assert chosen(choose_input(look(train_images=images), FINETUNE))["train.batch_size"] == batch


def test_classes_and_split_are_chosen_only_where_the_data_need_it() -> None:
    assert not chosen(choose_input(look(), FINETUNE)).keys() & {"data.classes", "data.val_fraction"}
    classes, split, *_ = choose_input(look(empty=("cells", "dog"), val_fraction=0.2), FINETUNE)
    assert classes.line() == "classes [cat]: no training image shows cells, dog"
    assert split.line() == "val_fraction 0.2: the data have no validation split; 60 of 260 images become one"


def test_the_epochs_fit_in_the_minutes() -> None:
    """An epoch of 200 images and a third of 60 takes 22 s at 10 images/s, and 25.9 s with all the rest: 69 in 30 minutes."""
    choices = choose_length(look(), FINETUNE, 10.0, 30, "as said")
    assert chosen(choices) == {"train.epochs": 69, "train.ema_decay": 0.9884}  # 5 % of 69 * 25 steps are 86
    assert choices[0].line() == "epochs 69: 30 of 30 min at 10 images/s (as said)"
    assert choices[1].line() == "ema_decay 0.9884: averages about 86 of 1,725 training steps"


def test_few_epochs_are_said_and_warmed_up_more_briefly() -> None:
    choices = choose_length(look(), FINETUNE, 10.0, 2, "as said")
    assert chosen(choices) == {"train.epochs": 4, "train.warmup_epochs": 0.4, "train.ema_decay": 0.9}
    assert choices[0].reason.endswith("1.7 of 2 min at 10 images/s (as said); 20 would be better and take 9 min: --minutes 9")
    assert choose_length(look(), SMALL, 4.0, 2, "as said")[0].reason.endswith(
        "20 would be better and take 22 min: --minutes 22 (with model.image_size 320 about 9)")


def test_a_moving_average_is_of_no_more_steps_than_there_are() -> None:
    choices = choose_length(look(train_images=64), FINETUNE, 0.01, 1, "")
    assert choices[-1].line() == "ema_decay 0.9: averages about 8 of 8 training steps"


def test_one_epoch_is_the_least_and_300_are_the_most() -> None:
    assert chosen(choose_length(look(), FINETUNE, 0.01, 1, ""))["train.epochs"] == 1
    assert chosen(choose_length(look(), FINETUNE, 1e5, 60, ""))["train.epochs"] == 300


def test_a_recipe_without_moving_average_stays_without() -> None:
    assert "train.ema_decay" not in chosen(choose_length(look(), CLASSIC, 10.0, 30, ""))
