"""Choose the values of params.yaml for a dataset: pure functions from a look at it to values with their reasons."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from ssd_lib.errors import plural
from ssd_lib.init.look import Look
from ssd_lib.params import Params

SMALL_SIDE = 0.04  # of the image: 13 px at 320 px, where the finest map of the fpn nets has cells of 8 px
MANY_SMALL = 0.2  # share of the objects
SMALLEST_PX, STEP_PX = 320, 64  # an image size that follows from the images is at least this, and a multiple of that
STEPS_PER_EPOCH = 8  # at least
VALIDATION_COST = 1 / 3  # of a training image: a forward pass without a backward pass
SHARE_OF_STEPS = 0.85  # of the time of an epoch; the rest is for loading, drawing and checkpoints
EPOCHS = (1, 300)
USEFUL_EPOCHS = 20  # fewer are too few for fine-tuning on hundreds of images
WARMUP_SHARE = 0.1  # of the run, at most
EMA_SHARE = 0.05  # of the run: the steps over which the moving average goes
EMA_DECAY = (0.9, 0.9998)


class Choice(NamedTuple):
    """A key of params.yaml (or "recipe"), its value, and why."""

    key: str
    value: Any
    reason: str

    def line(self) -> str:
        """Return it as a line for people."""
        value = f"[{_some(self.value)}]" if isinstance(self.value, list) else self.value
        return f"{self.key.rpartition('.')[2]} {value}: {self.reason}"


def small_share(look: Look) -> float:
    """Return the share of the objects with a side under SMALL_SIDE."""
    return float((look.sides.min(axis=1) < SMALL_SIDE).mean()) if len(look.sides) else 0.0


def choose_recipe(look: Look, asked: str | None) -> Choice:
    """Return the recipe: `asked`, or what suits the sizes of the objects."""
    if asked is not None:
        return Choice("recipe", asked, "as asked")
    share = small_share(look)
    text = f"{share:.0%} of the objects are narrower or lower than {SMALL_SIDE:.0%} of the image"
    if share >= MANY_SMALL:
        return Choice("recipe", "small-objects", text)
    return Choice("recipe", "finetune", f"{text}; small-objects is for {MANY_SMALL:.0%} or more")


def choose_input(look: Look, recipe: Params) -> list[Choice]:
    """Return the classes and the split, if the data need a choice, the image size and the batch size."""
    choices = []
    if look.empty:
        choices.append(Choice("data.classes", list(look.objects),
                              f"no training image shows {_some(look.empty)}"))
    if look.val_fraction is not None:
        choices.append(Choice("data.val_fraction", look.val_fraction,
                              f"the data have no validation split; {look.val_images} of "
                              f"{plural(look.train_images + look.val_images, 'image')} become one"))
    return [*choices, _image_size(look, recipe), _batch_size(look, recipe)]


def choose_length(look: Look, params: Params, images_per_s: float, minutes: float, how: str) -> list[Choice]:
    """Return the number of epochs that fit in a time, and what follows from it: warm-up and moving average.

    Args:
        look: at the dataset.
        params: with the values of `choose_input`.
        images_per_s: of training steps.
        minutes: the time budget.
        how: where the speed comes from.
    """
    seconds = (look.train_images + VALIDATION_COST * look.val_images) / images_per_s / SHARE_OF_STEPS
    epochs = min(max(int(minutes * 60 / seconds), EPOCHS[0]), EPOCHS[1])
    took = epochs * seconds / 60
    reason = f"{took:.{0 if took >= 10 else 1}f} of {minutes:g} min at {images_per_s:.3g} images/s ({how})"
    if epochs < USEFUL_EPOCHS:
        needed, size = USEFUL_EPOCHS * seconds / 60, params.model.image_size
        reason += f"; {USEFUL_EPOCHS} would be better and take {math.ceil(needed)} min: --minutes {math.ceil(needed)}"
        if size > SMALLEST_PX:
            reason += f" (with model.image_size {SMALLEST_PX} about {math.ceil(needed * (SMALLEST_PX / size) ** 2)})"
    elif epochs == EPOCHS[1]:
        reason += ", the most that is chosen"
    choices = [Choice("train.epochs", epochs, reason)]
    warmup = round(WARMUP_SHARE * epochs, 2)
    if warmup < params.train.warmup_epochs:
        choices.append(Choice("train.warmup_epochs", warmup, f"{WARMUP_SHARE:.0%} of so few epochs"))
    if params.train.ema_decay > 0:
        steps = epochs * math.ceil(look.train_images / params.train.batch_size)
        decay = min(max(round(1 - 1 / max(EMA_SHARE * steps, 1), 4), EMA_DECAY[0]), EMA_DECAY[1])
        choices.append(Choice("train.ema_decay", decay,
                              f"averages about {min(1 / (1 - decay), steps):.0f} of {steps:,} training steps"))
    return choices


def _image_size(look: Look, recipe: Params) -> Choice:
    """Return the recipe's size, or less where it is more than twice the images' own."""
    size, longer = recipe.model.image_size, max(look.image_px)
    limit = max(SMALLEST_PX, math.ceil(2 * longer / STEP_PX) * STEP_PX)
    if size <= limit:
        return Choice("model.image_size", size, "of the recipe")
    return Choice("model.image_size", limit, f"half of the images are no larger than {longer} px; the recipe has {size}")


def _batch_size(look: Look, recipe: Params) -> Choice:
    size = min(recipe.train.batch_size, max(2, look.train_images // STEPS_PER_EPOCH))
    steps = math.ceil(look.train_images / size)
    reason = "of the recipe" if size == recipe.train.batch_size else (
        f"so that {plural(look.train_images, 'training image')} make {plural(steps, 'step')}; the recipe has "
        f"{recipe.train.batch_size}")
    return Choice("train.batch_size", size, reason)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
