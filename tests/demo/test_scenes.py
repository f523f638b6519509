"""Demo scenes: how many things, how large, how visible."""

import numpy as np
import pytest

from ssd_lib.demo import scenes as scenes_module
from ssd_lib.demo.scenes import HUE_SPREAD, HUES, SIDES_PX, Kind, Scene, _any_hue, make_scene
from ssd_lib.demo.shapes import CLASSES, CLASSLESS, Look, Painter

LIGHT_GRAY = np.full(3, 0.8, np.float32)
PHOTOGRAPH = np.full((400, 400, 3), 90, np.uint8)


def scenes(kind: Kind, count: int) -> list[Scene]:
    return [make_scene([PHOTOGRAPH], kind, np.random.default_rng(seed)) for seed in range(count)]


def test_images_have_sides_of_the_allowed_lengths() -> None:
    sides = [side for scene in scenes("empty", 12) for side in scene.image.shape[:2]]
    assert min(sides) >= SIDES_PX[0]
    assert max(sides) <= SIDES_PX[1]
    assert len(set(sides)) > 10


def test_every_image_of_objects_holds_one_to_five() -> None:
    counts = [len(scene.objects) for scene in scenes("objects", 25)]
    assert min(counts) >= 1
    assert 3 <= max(counts) <= 5
    assert not any(scene.crowd for scene in scenes("objects", 3))


def test_a_hue_is_a_hint_and_no_proof_of_the_class() -> None:
    rng = np.random.default_rng(0)
    for name, favourite in HUES.items():
        hues = np.array([_any_hue(name, rng) for _ in range(400)])
        is_near = np.abs((hues - favourite + 180) % 360 - 180) <= HUE_SPREAD
        assert 0.5 < is_near.mean() < 0.9


def test_an_empty_image_holds_no_class() -> None:
    assert not any(scene.objects or scene.crowd for scene in scenes("empty", 6))


def test_a_crowd_is_of_one_class() -> None:
    for scene in scenes("crowd", 6):
        assert len(scene.crowd) >= 6
        assert len({layer.class_name for layer in scene.crowd}) == 1


def test_an_object_that_is_too_much_hidden_is_not_annotated(monkeypatch: pytest.MonkeyPatch) -> None:
    shares = {}
    for least in (0.0, 0.9):
        monkeypatch.setattr(scenes_module, "VISIBLE_SHARE", least)
        shares[least] = [layer.visible_share for scene in scenes("crowd", 12) for layer in scene.objects]
    assert shares[0.9] == [share for share in shares[0.0] if share >= 0.9]
    assert 0 < len(shares[0.9]) < len(shares[0.0])


@pytest.mark.parametrize("painter", [*CLASSES.values(), *CLASSLESS])
def test_a_painted_thing_fills_its_canvas_and_leaves_a_margin(painter: Painter) -> None:
    rng = np.random.default_rng(0)
    colour, alpha = painter(120, Look(LIGHT_GRAY, LIGHT_GRAY / 4, np.array([0, -0.6, 0.8], np.float32), rng))
    assert colour.shape == (120, 120, 3)
    assert colour.dtype == alpha.dtype == np.float32
    assert min(colour.min(), alpha.min()) >= 0
    assert max(colour.max(), alpha.max()) <= 1
    extent = max(np.ptp(np.flatnonzero(alpha.any(axis=axis))) for axis in (0, 1))
    assert extent > 0.7 * 120
    assert not any(edge.any() for edge in (alpha[0], alpha[-1], alpha[:, 0], alpha[:, -1]))


def test_light_from_the_left_makes_the_left_brighter() -> None:
    look = Look(LIGHT_GRAY, LIGHT_GRAY, np.array([-0.8, 0, 0.6], np.float32), np.random.default_rng(0))
    for name in ("ball", "mug"):
        colour, alpha = CLASSES[name](120, look)
        total, area = (colour[..., 0] * alpha).sum(axis=0), alpha.sum(axis=0)
        left, right = total[:60].sum() / area[:60].sum(), total[60:].sum() / area[60:].sum()
        assert left > 1.2 * right, name
