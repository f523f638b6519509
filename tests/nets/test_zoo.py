"""Nets: upstream's outputs, any image size, and a net that overfits four images."""

from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from support.golden import UPSTREAM_NETS, golden_weights, read_golden
from support.nets import LARGE_NETS, all_but_large

from ssd_lib.boxes.coder import decode
from ssd_lib.boxes.loss import detection_loss
from ssd_lib.boxes.matching import match_priors
from ssd_lib.errors import InputError
from ssd_lib.nets.upstream import from_upstream
from ssd_lib.nets.zoo import NETS, build_net
from ssd_lib.params import ModelParams


@pytest.mark.parametrize("name", all_but_large(UPSTREAM_NETS))
def test_a_net_gives_the_outputs_of_upstream(name: str, shared_data: Path) -> None:
    golden = read_golden(shared_data, name)
    net = build_net(name, classes=20, image_size=300, width_mult=1.0).eval()
    net.load_state_dict(from_upstream(golden_weights(golden), net.state_dict(), "golden"))
    assert sum(p.numel() for p in net.parameters()) == golden["parameters"]
    assert len(net.priors) == golden["priors"]

    normalised = torch.from_numpy(np.random.default_rng(300).uniform(-1, 1, (1, 3, 300, 300)).astype(np.float32))
    with torch.no_grad():
        logits, offsets = net(normalised * net.std + net.mean)
    rows = golden["sampled_priors"]
    torch.testing.assert_close(logits.softmax(-1)[0, rows], torch.tensor(golden["scores"]), atol=1e-4, rtol=0)
    torch.testing.assert_close(decode(offsets, net.priors)[0, rows], torch.tensor(golden["boxes"]), atol=1e-4, rtol=0)


@pytest.mark.parametrize(("name", "size"), [
    *((name, size) for name in NETS for size in (64, 160, 320) if name not in LARGE_NETS),
    *(pytest.param(name, size, marks=pytest.mark.slow) for name in LARGE_NETS for size in (272, 320))])
def test_priors_follow_the_maps_at_any_size(name: str, size: int) -> None:
    net = build_net(name, classes=3, image_size=size, width_mult=0.5 if name == "mb2-ssd-lite" else 1.0).eval()
    with torch.no_grad():
        logits, offsets = net(torch.zeros(2, 3, size, size, dtype=torch.uint8))
    assert logits.shape == (2, len(net.priors), 4)
    assert offsets.shape == (2, len(net.priors), 4)


def test_an_image_size_too_small_for_a_net_is_reported() -> None:
    with pytest.raises(InputError, match=r"model\.image_size: 160 px is too small for this net"):
        build_net("vgg16-ssd", classes=3, image_size=160, width_mult=1.0)


def test_params_and_the_table_have_the_same_names() -> None:
    assert set(get_args(ModelParams.model_fields["net"].annotation)) == set(NETS)


def test_the_weights_depend_only_on_the_seed() -> None:
    before = torch.random.get_rng_state()
    one, same, other = (build_net("mb2-ssd-lite", 3, 64, 0.25, seed=seed).state_dict() for seed in (5, 5, 6))
    assert all(torch.equal(one[key], same[key]) for key in one)
    assert not torch.equal(one["class_heads.0.0.weight"], other["class_heads.0.0.weight"])
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_small_net_overfits_four_images() -> None:
    net = build_net("mb2-ssd-lite", classes=2, image_size=64, width_mult=0.25, seed=1).train()
    images = torch.randint(0, 256, (4, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    boxes = torch.tensor([[[0.1, 0.1, 0.5, 0.6]], [[0.4, 0.3, 0.9, 0.8]], [[0.0, 0.5, 0.4, 1.0]], [[0.2, 0.2, 0.9, 0.9]]])
    labels = torch.tensor([[1], [2], [1], [2]])
    optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
    for _ in range(60):
        logits, offsets = net(images)
        matched, targets = match_priors(boxes, labels, torch.zeros(4, 0, 4), net.priors_xyxy)
        sums = detection_loss(logits, offsets, targets, matched, net.priors)
        loss = (sums.classification + sums.box) / sums.positives
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    scores = logits.softmax(-1)
    best = scores[..., 1:].amax(-1).argmax(1)
    found = decode(offsets, net.priors)[range(4), best]
    assert loss < 0.5
    assert (scores[range(4), best, 1:].argmax(-1) + 1).tolist() == [1, 2, 1, 2]
    assert (found - boxes[:, 0]).abs().max() < 0.1
