"""Milliseconds an image from a net's outputs to its detections, as evaluation needs them, here and in the predecessors' manner.

    python -m benchmarks.postprocess

Outputs are made up: those of a trained net, of which some 300 scores of an image pass the threshold, around a few objects (of
the demo's trained net, with its six classes, it is 150 to 510, median 311); and those of a new one, of which nearly all of the
quarter of a million do. Both ways take turns; softmax and decoding are part of both.
"""

import argparse
import time
from collections.abc import Callable
from statistics import median
from typing import NamedTuple

import torch
from torch import Tensor

from benchmarks.reference_postprocess import postprocess_plain
from ssd_lib.boxes.priors import make_priors
from ssd_lib.nets.postprocess import Detections, Postprocess, decode_candidates, select_detections
from ssd_lib.nets.zoo import MOBILE_PRIORS

CLASSES, CANDIDATES, OBJECTS, PRIORS_OF_AN_OBJECT = 80, 300, 7, 30
MAP_SIZES = [(side, side) for side in (19, 10, 5, 3, 2, 1)]  # of the mobile nets at 300 px: 3000 priors
PARAMS = Postprocess()


class Outputs(NamedTuple):
    """(B, P, K + 1) logits and (B, P, 4) offsets of a net, and its (P, 4) priors."""

    logits: Tensor
    offsets: Tensor
    priors: Tensor


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    print("ms an image, median (min to max)\n\n| net | images at once | threads | here | plain | ratio |")
    print("|---|---|---|---|---|---|")
    for name, make in (("trained", trained_outputs), ("new", new_outputs)):
        for batch in (1, 16):
            outputs = make(batch)
            for threads in (1, 2):
                torch.set_num_threads(threads)
                here, plain = in_turn(lambda o=outputs: postprocess_here(o), lambda o=outputs: postprocess_plainly(o), rounds)
                print(f"| {name} | {batch} | {threads} | {_spread(here, batch)} | {_spread(plain, batch)} | "
                      f"{median(plain) / median(here):.0f} |", flush=True)


@torch.inference_mode()
def postprocess_here(outputs: Outputs) -> list[Detections]:
    """The detections of a batch."""
    return select_detections(*decode_candidates(*outputs, PARAMS.score_threshold), PARAMS)


@torch.no_grad()
def postprocess_plainly(outputs: Outputs) -> list[list[Tensor]]:
    """The same, image by image, class by class."""
    return [postprocess_plain(logits[None], offsets[None], outputs.priors)
            for logits, offsets in zip(outputs.logits, outputs.offsets, strict=True)]


def trained_outputs(batch: int, seed: int = 0) -> Outputs:
    """Objects that the priors around them see, the nearest best, over a background that is so strong that `CANDIDATES` scores
    of an image pass the threshold."""
    dice = torch.Generator().manual_seed(seed)
    priors = make_priors(MOBILE_PRIORS, MAP_SIZES, 300)
    logits = torch.randn(batch, len(priors), CLASSES + 1, generator=dice)
    for image in logits:
        for _ in range(OBJECTS):
            center, side = torch.rand(2, generator=dice), 0.15 + 0.5 * torch.rand((), generator=dice)
            label = int(torch.randint(1, CLASSES + 1, (), generator=dice))
            far = (priors[:, :2] - center).norm(dim=1) / side + (priors[:, 2:] / side).log().abs().amax(dim=1)
            near = far.topk(PRIORS_OF_AN_OBJECT, largest=False).indices
            image[near, label] += torch.linspace(11, 3, PRIORS_OF_AN_OBJECT)
    logits[..., 0] += background_bias(logits, CANDIDATES * batch)
    return Outputs(logits, 0.5 * torch.randn(batch, len(priors), 4, generator=dice), priors)


def new_outputs(batch: int, seed: int = 0) -> Outputs:
    """Every class is as likely as every other, 1 / 81, give or take a tenth."""
    dice = torch.Generator().manual_seed(seed)
    priors = make_priors(MOBILE_PRIORS, MAP_SIZES, 300)
    return Outputs(0.1 * torch.randn(batch, len(priors), CLASSES + 1, generator=dice),
                   0.3 * torch.randn(batch, len(priors), 4, generator=dice), priors)


def background_bias(logits: Tensor, wanted: int) -> float:
    """What to add to the background's logits so that so many scores pass the threshold."""
    low, high = -20.0, 60.0
    for _ in range(40):
        middle = (low + high) / 2
        shifted = logits.clone()
        shifted[..., 0] += middle
        passing = int((shifted.softmax(dim=2)[..., 1:] >= PARAMS.score_threshold).sum())
        low, high = (middle, high) if passing > wanted else (low, middle)
    return high


def in_turn(here: Callable[[], object], plain: Callable[[], object], rounds: int) -> tuple[list[float], list[float]]:
    """Seconds of every call of two ways, after one of each that warms up; a plain call is as long as many of the other."""
    times: tuple[list[float], list[float]] = ([], [])
    for turn in range(rounds + 1):
        for way, seconds, calls in ((here, times[0], 5), (plain, times[1], 1)):
            for _ in range(calls):
                begin = time.perf_counter()
                way()
                if turn:
                    seconds.append(time.perf_counter() - begin)
    return times


def _spread(seconds: list[float], batch: int) -> str:
    median_ms, low_ms, high_ms = (1000 * value / batch for value in (median(seconds), min(seconds), max(seconds)))
    return f"{median_ms:.2f} ({low_ms:.2f} to {high_ms:.2f})"


if __name__ == "__main__":
    main()
