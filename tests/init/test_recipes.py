"""The recipes follow params.yaml, and the text of a params file changes in its values only."""

from pathlib import Path

import pytest
import yaml
from support.project import ROOT

from ssd_lib.errors import InputError
from ssd_lib.init.recipes import card_of, read_recipe, refresh, regenerated, values_of, with_values

PARAMS = (ROOT / "params.yaml").read_text()
RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))
SMALL = """# a card
# of two lines

data:
  paths: []                   # several
                              # lines
  seed: 1                     # of all

train:
  lr: 0.003
  seed: 2                     # of the weights
"""


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_has_the_keys_and_comments_of_params_yaml(path: Path) -> None:
    assert path.read_text() == regenerated(path.read_text(), PARAMS), (
        'run `python -c "from ssd_lib.init.recipes import refresh; refresh()"`, and look at the values of new keys')


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_begins_with_a_card(path: Path) -> None:
    card = card_of(path.read_text())
    assert all(f"\n#   {word}" in card for word in ("data", "weights", "net", "hardware", "time", "result"))
    assert "measured" in card or "not run" in card
    assert f"cp recipes/{path.name} params.yaml" in card.splitlines()[0]


def test_a_refreshed_recipe_keeps_its_values_and_gets_new_keys_and_comments(tmp_path: Path) -> None:
    old = SMALL.replace("lr: 0.003", "lr: 4e-5").replace("a card", "its card").replace("of all", "an old comment")
    (tmp_path / "recipe.yaml").write_text(old)
    (tmp_path / "params.yaml").write_text(SMALL.replace("  seed: 2", "  new: true                   # a new key\n  seed: 2"))
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipe.yaml").rename(tmp_path / "recipes" / "recipe.yaml")
    refresh(tmp_path / "recipes", tmp_path / "params.yaml")
    assert (tmp_path / "recipes" / "recipe.yaml").read_text() == SMALL.replace("a card", "its card").replace(
        "lr: 0.003", "lr: 4e-5").replace("  seed: 2", "  new: true                   # a new key\n  seed: 2")


def test_a_value_is_changed_in_its_group_only_and_its_comment_stays_in_its_column() -> None:
    changed = with_values(SMALL, {"data.seed": "12345", "data.paths": "[/a/folder/with/a/long/name]", "train.lr": "1e-3"})
    assert changed.splitlines()[4:] == [
        "  paths: [/a/folder/with/a/long/name]  # several", "                              # lines",
        "  seed: 12345                 # of all", "", "train:", "  lr: 1e-3", "  seed: 2                     # of the weights"]


def test_values_are_read_as_they_are_written() -> None:
    assert values_of(SMALL) == {"data.paths": "[]", "data.seed": "1", "train.lr": "0.003", "train.seed": "2"}
    whole = {f"{group}.{key}": value for group, keys in yaml.safe_load(PARAMS).items() for key, value in keys.items()}
    assert {key: yaml.safe_load(value) for key, value in values_of(PARAMS).items()} == whole


def test_an_unknown_recipe_names_those_that_exist() -> None:
    with pytest.raises(InputError, match=r"found 'fine'; it must be one of .*finetune.*small-objects"):
        read_recipe("fine", ROOT / "recipes")
