"""Check before hours of downloading what only a later stage needs.

The download stage does not depend on these values, so that a change of them does not run it again; the later stages check
them, too.
"""

from collections.abc import Callable, Iterable
from operator import attrgetter
from pathlib import Path

from ssd_lib.errors import InputError
from ssd_lib.files import in_project
from ssd_lib.params import PARAMS_PATH, WORDS_FOR_FILES, read_params
from ssd_lib.processes import has_cuda_driver


def check_before_download(imagenet_fault: Callable[[str], str], formats_fault: Callable[[Iterable[str]], str],
                          path: Path = PARAMS_PATH) -> None:
    """Check files, weights, packages and the device that params.yaml names for later stages.

    Args:
        imagenet_fault: returns why there are no ImageNet weights for a net; "" if there are.
        formats_fault: returns which packages for formats of export are missing; "" if none are.
        path: the params file.

    Raises:
        InputError: a file of weights or of augmentation is missing, or ImageNet weights or a package for export.formats
            are, or there is no CUDA device.
    """
    params = read_params(path)
    values = {key: attrgetter(key)(params) for key in WORDS_FOR_FILES}
    faults = [f"{key} is '{value}', which is not a file; it must be {', '.join(WORDS_FOR_FILES[key])} or the path of a file"
              for key, value in values.items() if value not in WORDS_FOR_FILES[key] and not in_project(value).is_file()]
    if params.model.backbone_weights == "imagenet" and params.model.weights == "none":
        faults.append(imagenet_fault(params.model.net))
    if params.runtime.device.startswith("cuda") and not has_cuda_driver():
        faults.append(f"runtime.device is '{params.runtime.device}' and this machine has no CUDA driver; set auto or cpu")
    faults = [fault for fault in (*faults, formats_fault(params.export.formats)) if fault]
    if faults:
        raise InputError("\n  ".join([f"{path}: nothing was downloaded.", *faults]))


def batch_warning(images: int, path: Path = PARAMS_PATH) -> str:
    """Return a line of warning if the training images are fewer than a batch; "" if they are not."""
    batch = read_params(path).train.batch_size
    return "" if images >= batch else (f"\nWARNING train.batch_size is {batch}, and there are {images} training images: a step "
                                       f"shows images more than once. Set it to {images} or less.")
