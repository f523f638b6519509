"""Python packages of the formats of `export.formats`: which of them are not installed. It imports none of them."""

from collections.abc import Iterable
from importlib.util import find_spec

PACKAGES = {  # of formats that requirements.txt has no package for: what runs them, and what else writes them
    "openvino": (("openvino",), ()),
    "ncnn": (("ncnn",), ("pnnx",)),
    "litert": (("ai-edge-litert",), ("litert-torch",)),
}


def missing_package(form: str, to_write: bool = True) -> str:
    """Return the packages that a format needs and that are not installed; "" if all are.

    Args:
        form: a `params.ExportFormat`.
        to_write: also those with which it is written, not only run.
    """
    to_run, others = PACKAGES.get(form, ((), ()))
    return " ".join(package for package in (*to_run, *others * to_write) if not find_spec(package.replace("-", "_")))


def formats_fault(formats: Iterable[str]) -> str:
    """Return that packages for these formats are missing, and how to install them; "" if none are."""
    missing = {form: packages for form in formats if (packages := missing_package(form))}
    if not missing:
        return ""
    return (f"export.formats has {', '.join(missing)}, and packages for it are not installed: "
            f"`pip install {' '.join(missing.values())}`, or leave it out")
