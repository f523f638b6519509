"""`ssd init`: write params.yaml for a dataset, from a recipe, and say why."""

import logging
import math
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from ssd_lib.errors import InputError, plural, visible
from ssd_lib.files import in_project, write_text
from ssd_lib.init.choose import Choice, choose_input, choose_length, choose_recipe
from ssd_lib.init.look import Look, look_at
from ssd_lib.init.recipes import RECIPES, card_of, read_recipe, values_of, with_values
from ssd_lib.init.speed import training_speed
from ssd_lib.params import PARAMS_PATH, check_params

KEPT = ("train.seed", "runtime.")  # of the present params.yaml: they do not depend on the data
FIRST_LOOK = "finetune"  # any recipe: its data section says how to look at the data
SHOWN_CLASSES = 8
log = logging.getLogger(__name__)


def run(paths: Sequence[str], recipe: str | None = None, form: str = "auto", minutes: float = 30.0,
        images_per_second: float | None = None, force: bool = False, dry_run: bool = False) -> None:
    """Look at a dataset, choose a recipe and its values, and write params.yaml; log a line for each choice.

    Args:
        paths: `data.paths`.
        recipe: the name of a file in recipes/; None chooses.
        form: `data.format`.
        minutes: time for training.
        images_per_second: speed of training; None measures it.
        force: overwrite a params.yaml that is saved nowhere else.
        dry_run: write nothing.

    Raises:
        InputError: the data cannot be used, there is no such recipe, or params.yaml would be lost.
    """
    if not RECIPES.is_dir():
        raise InputError(f"{RECIPES}/: missing. Run `ssd init` in the root of a clone of the project.")
    _require_paths(paths)
    template = read_recipe(recipe or FIRST_LOOK)
    source = [Choice("data.source", "local", ""), Choice("data.paths", list(paths), ""), Choice("data.format", form, "")]
    look = look_at(check_params(_changed(template, source).encode(), PARAMS_PATH).data)
    if not dry_run and not force:
        _refuse_to_lose(PARAMS_PATH)
    for line in _shown(paths, look):
        log.info("%s", line)
    if look.broken:
        log.warning("%s cannot be read, so that the objects there are not counted; the first: %s. Correct the labels, then run "
                    "this command again", plural(len(look.broken), "label file"), visible(look.broken[0]))
    choices = [choose_recipe(look, recipe)]
    template = _changed(with_values(read_recipe(choices[0].value), _kept(PARAMS_PATH)), source)
    choices += choose_input(look, check_params(template.encode(), PARAMS_PATH))
    params = check_params(_changed(template, choices).encode(), PARAMS_PATH)
    speed, how = (images_per_second, "as said") if images_per_second else training_speed(params, len(look.objects))
    choices += choose_length(look, params, speed, minutes, how)
    for choice in choices:
        log.info("%s", choice.line())
    text = _changed(template, choices)
    check_params(text.encode(), PARAMS_PATH)
    if dry_run:
        log.info("%s is not written (--dry-run)", PARAMS_PATH)
        return
    write_text(PARAMS_PATH, _card(paths, look, choices) + text.removeprefix(card_of(text)))
    log.info("written to %s; next: dvc repro validate, which writes reports/validation.html, then dvc repro, which after "
             "training exports and evaluates for some minutes (fewer without export.int8)", PARAMS_PATH)


def _require_paths(paths: Sequence[str]) -> None:
    for path in paths:
        if not in_project(path).exists():
            raise InputError(f"{path}: there is no such folder or zip file. Give the one that has your images and labels.")


def _refuse_to_lose(path: Path) -> None:
    """Refuse to overwrite a file that is neither in git's HEAD nor a recipe.

    Raises:
        InputError: it would be lost.
    """
    if not path.exists():
        return
    present = path.read_bytes().splitlines()
    try:
        head = subprocess.run(["git", "show", f"HEAD:./{path}"], capture_output=True, check=False).stdout
    except OSError:  # no git
        head = b""
    if present not in [head.splitlines(), *(recipe.read_bytes().splitlines() for recipe in RECIPES.glob("*.yaml"))]:
        raise InputError(f"{path}: has changes that neither git's last commit nor {RECIPES}/ has; it is not overwritten. "
                         "Commit or copy it, or add --force; --dry-run shows what would be chosen.")


def _kept(path: Path) -> dict[str, str]:
    """Return the values of the present params.yaml that stay."""
    if not path.exists():
        return {}
    return {key: value for key, value in values_of(path.read_text(encoding="utf-8", errors="replace")).items()
            if key.startswith(KEPT)}


def _changed(text: str, choices: Sequence[Choice]) -> str:
    return with_values(text, {choice.key: _yaml(choice.value) for choice in choices})


def _yaml(value: Any) -> str:
    """Return a value as YAML on one line."""
    def dumped(allow_unicode: bool) -> str:
        return str(yaml.safe_dump([value], default_flow_style=True, width=math.inf, allow_unicode=allow_unicode)).strip()[1:-1]

    text = dumped(allow_unicode=True)
    return text if text.isprintable() else dumped(allow_unicode=False)  # U+2028 would end the line


def _shown(paths: Sequence[str], look: Look) -> list[str]:
    """Return a line about the images of the dataset, and one about its classes."""
    names = [f"{visible(name, 30)} {count:,}" for name, count in look.objects.items()]
    more = f" and {len(names) - SHOWN_CLASSES} more" if len(names) > SHOWN_CLASSES else ""
    return [f"{', '.join(visible(path, 100) for path in paths)}: {' + '.join(look.formats)}, {look.train_images:,} training "
            f"and {look.val_images:,} validation images, the median {look.image_px[0]} x {look.image_px[1]} px",
            f"{plural(len(names), 'class')} in training: {', '.join(names[:SHOWN_CLASSES])}{more}"]


def _card(paths: Sequence[str], look: Look, choices: Sequence[Choice]) -> str:
    """Return the comments at the head of the written file."""
    images, classes = _shown(paths, look)
    lines = ["Written by `ssd init`:", images, *(f"  {line}" for line in (classes, *(choice.line() for choice in choices)))]
    return "".join(f"# {visible(line)}\n" for line in lines) + "\n"
