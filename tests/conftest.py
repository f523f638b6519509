"""What all tests share: where the real images are."""

import os
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from support.project import ROOT

pytest_plugins = [f"support.{name}" for name in ("raw_folder", "coco_images", "trained_project", "train_workspace")]

# `HYPOTHESIS_PROFILE=thorough pytest` draws more examples, and new ones each time.
settings.register_profile("default", max_examples=25, derandomize=True, deadline=None,
                          suppress_health_check=[HealthCheck.function_scoped_fixture])
settings.register_profile("thorough", settings.get_profile("default"), max_examples=300, derandomize=False)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files with the most slow tests first: else one worker is left with them at the end while the others are idle.

    Several workers keep this order with `--no-loadscope-reorder`.
    """
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of real images and golden figures beside the project."""
    folder = Path(os.environ.get("SSD_SHARED_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there; set SSD_SHARED_DATA to the folder of real images")
    return folder
