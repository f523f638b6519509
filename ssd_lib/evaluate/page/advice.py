"""What to try next, derived from the numbers."""

from collections.abc import Iterator

import numpy as np

from ssd_lib.errors import plural
from ssd_lib.evaluate.page.inputs import PageInput
from ssd_lib.report.elements import Section, Text, percent

FEW_OBJECTS = 50  # of a class in training; below it, a class is hardly learned
FEW_IN_VAL = 10  # AP of fewer objects is chance
CONFUSED = 0.1  # share of the objects of a class that are taken for one other class
FEWEST_CONFUSED = 3
OVERFIT = 1.1  # validation loss at the end, relative to its lowest
RISING = 1.02  # AP50 at the end, relative to that of three quarters of the run
WELL_COVERED = 0.7  # share of the objects of a size with a fitting prior
MANY = 0.1  # share of the objects that is worth advice
COSTLY = 0.03  # AP50
SHORT, LEARNED = 10, 0.5  # fewer epochs explain a lower AP50
NAMED = 5


def advice_section(given: PageInput) -> Section:
    """Return what to try next, or that no rule applies."""
    rules = (_short, _priors, _few_objects, _confused, _training, _costs, _small_validation)
    found = [text for rule in rules for text in rule(given)]
    nothing = Text("No weakness stands out. More images and more epochs help most detectors, a larger `model.image_size` where "
                   "objects are small.", page="nets.md")
    return Section("What to try next", found or (nothing,))


def _short(given: PageInput) -> Iterator[Text]:
    """Advise on runs that were too short for what they should learn."""
    if 0 < len(given.history) < SHORT and given.metrics["AP50"] < LEARNED:
        yield Text(f"Trained for only {plural(len(given.history), 'epoch')}: most of what is below may be due to that. Raise "
                   "`train.epochs` first; the run continues.", "advice", "checkpoints.md")


def _priors(given: PageInput) -> Iterator[Text]:
    """Advise on sizes whose objects have few fitting priors."""
    total = given.priors.get("boxes", 0)
    found = [f"{percent(row['recall'], 1)} of the {row['boxes']:,} with a side of {row['from']} to {row['to']} px"
             for row in given.priors.get("by_side_px", ()) if row["recall"] < WELL_COVERED and row["boxes"] > MANY * total]
    if found:
        yield Text(f"Of the training objects only these have a prior that fits: {', '.join(found)} in the net's input. "
                   "`model.priors: auto` fits the priors to your objects; a larger `model.image_size`, or a net with a finer "
                   "first map, helps small ones.", "advice", "nets.md")


def _few_objects(given: PageInput) -> Iterator[Text]:
    """Advise on classes with few objects in training."""
    if given.train_objects is None:
        return
    few = [k for k in np.argsort(given.train_objects, kind="stable").tolist() if given.train_objects[k] < FEW_OBJECTS]
    if few:
        names = ", ".join(f"{given.analysis.fixed.class_names[k]} ({given.train_objects[k]})" for k in few[:NAMED])
        more = f" and {len(few) - NAMED} more" if len(few) > NAMED else ""
        yield Text(f"Few objects to learn from: {names}{more}. Label more images of them; `data.balance: repeat` shows the "
                   "images of rare classes more often.", "advice", "formats.md#class-balance")


def _confused(given: PageInput) -> Iterator[Text]:
    """Advise on pairs of classes that are confused."""
    table, names = given.analysis.confused, given.analysis.fixed.class_names
    totals = table.sum(axis=1)
    pairs = [(int(table[a, b]), a, b) for a in range(len(names)) for b in range(len(names))
             if a != b and table[a, b] >= FEWEST_CONFUSED and table[a, b] >= CONFUSED * totals[a]]
    for count, a, b in sorted(pairs, key=lambda pair: -pair[0])[:2]:
        yield Text(f"{count} of {plural(int(totals[a]), 'object')} of {names[a]} are taken for {names[b]}. Look whether both "
                   "are labelled consistently; if people cannot tell them apart either, join them into one class.", "advice")


def _training(given: PageInput) -> Iterator[Text]:
    """Advise on runs that learned the training images by heart, and on runs that ended early."""
    losses = [(epoch["train_loss"], epoch["val_loss"]) for epoch in given.history
              if "train_loss" in epoch and "val_loss" in epoch]
    aps = [epoch["AP50"] for epoch in given.history if "AP50" in epoch]
    if len(losses) > 2 and losses[-1][1] > OVERFIT * min(val for _, val in losses) and losses[-1][0] == min(losses)[0]:
        at = min(range(len(losses)), key=lambda row: losses[row][1]) + 1
        yield Text(f"Overfitting: the validation loss was lowest in epoch {at} and rose since, while the training loss fell. "
                   "Try a stronger `train.augmentation`, fewer epochs, `train.select: best`, or more images.", "advice",
                   "pipeline.md")
    elif len(aps) > 3 and aps[-1] > RISING * aps[len(aps) * 3 // 4 - 1]:
        yield Text(f"AP50 was still rising when training ended ({aps[len(aps) * 3 // 4 - 1]:.3f} to {aps[-1]:.3f} in its last "
                   "quarter). Raise `train.epochs`: the run continues.", "advice", "checkpoints.md")


def _costs(given: PageInput) -> Iterator[Text]:
    """Advise on the kind of error that costs most."""
    gains = {kind: gain for kind, gain in given.analysis.lost.items() if np.isfinite(gain)}
    worst = max(gains, key=lambda kind: gains[kind], default="")
    if worst and gains[worst] >= COSTLY:
        remedies = {
            "classification": ("Wrong classes cost most. More images of the pairs in the confusion matrix help.", "formats.md"),
            "localisation": ("Loose boxes cost most. Check that labels are tight and consistent; a larger "
                             "`model.image_size` and `train.box_loss: giou` give tighter boxes.", "nets.md"),
            "both": ("Detections of the wrong class with loose boxes cost most: train longer or on more images.", "nets.md"),
            "duplicate": ("Objects that are found twice cost most: lower `postprocess.nms_iou`, which trains nothing again.",
                          "deployment.md"),
            "background": ("Detections where nothing is cost most. Look at the worst images: these may be objects without a "
                           "label. If they are not, add images of such backgrounds without objects.",
                           "accuracy.md#photographs-without-objects"),
            "missed": ("Missed objects cost most. Look at the table of object sizes: if the small ones are missed, raise "
                       "`model.image_size`; otherwise train longer or on more images.", "nets.md"),
        }
        text, page = remedies[worst]
        yield Text(f"{text} AP50 would gain {gains[worst]:.3f}.", "advice", page)


def _small_validation(given: PageInput) -> Iterator[Text]:
    """Warn of classes whose AP is chance."""
    fixed = given.analysis.fixed
    objects = np.bincount(fixed.labels[~fixed.is_crowd], minlength=len(fixed.class_names) + 1)[1:]
    few = [fixed.class_names[k] for k in range(len(objects)) if objects[k] < FEW_IN_VAL]
    if few:
        names = ", ".join(few[:NAMED]) + (f" and {len(few) - NAMED} more" if len(few) > NAMED else "")
        yield Text(f"Fewer than {FEW_IN_VAL} validation objects, so that their figures are mostly chance: {names}.")
