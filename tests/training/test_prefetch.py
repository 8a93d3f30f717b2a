"""Batches gathered ahead are those of the order, whatever is loaded in between."""

from __future__ import annotations

import gc
import threading
import weakref

import pytest
import torch
from torch import Tensor

from infogan_fast import ops
from infogan_fast.latents import LatentSpec
from infogan_fast.networks.infogan import InfoGAN
from infogan_fast.objective.objective import Objective
from infogan_fast.training.prefetch import Prefetcher
from infogan_fast.training.step import TrainingStep

SPEC = LatentSpec.parse("noise=4,cat=3")


def images(count: int, channels: int) -> Tensor:
    draws = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (count, channels, 16, 16), dtype=torch.uint8, generator=draws)


def make(*, prefetch: bool, channels: int = 3, device: str = "cpu") -> TrainingStep:
    networks = InfoGAN(SPEC, 16, channels, seed=2).to(device)
    return TrainingStep(SPEC, networks, Objective(), images(11, channels), 4, seed=3, prefetch=prefetch)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_step_that_prefetches_computes_the_same_bits(channels: int) -> None:
    ahead, plain = (make(prefetch=prefetch, channels=channels) for prefetch in (True, False))
    for _ in range(3):
        ahead()
        plain()
    saved = {name: tensor.clone() for name, tensor in plain.state.named_tensors()}
    for name, tensor in ahead.state.named_tensors():
        assert torch.equal(tensor, saved[name]), name
    assert torch.equal(ahead.order, plain.order)


def test_what_was_gathered_before_a_state_was_loaded_is_dropped() -> None:
    data = images(9, 1).permute(0, 2, 3, 1).contiguous()
    order = ops.rng_state(5)
    prefetcher = Prefetcher(lambda state: ops.gather_images(state, data, 4).batch, order, torch.device("cpu"))
    taken = [prefetcher.take() for _ in range(4)]
    other = ops.rng_state(5)
    for batch in taken:
        assert torch.equal(batch, ops.gather_images(other, data, 4).batch)
    order.copy_(ops.rng_state(5))
    assert torch.equal(prefetcher.take(), taken[0])
    assert torch.equal(prefetcher.take(), taken[1])


def test_gathering_goes_on_during_the_update_and_its_errors_arrive() -> None:
    gathering, release = threading.Event(), threading.Event()

    def gather(state: Tensor) -> Tensor:
        gathering.set()
        assert release.wait(20)
        state[1] += 1
        if state[1] == 3:
            raise OSError("the disk is gone")
        return state.clone()

    order = ops.rng_state(1)
    prefetcher = Prefetcher(gather, order, torch.device("cpu"))
    assert gathering.wait(20)  # before anybody asked
    assert order[1] == 0
    release.set()
    assert prefetcher.take()[1] == 1
    assert order[1] == 1
    assert prefetcher.take()[1] == 2
    with pytest.raises(OSError, match="the disk is gone"):
        prefetcher.take()
    assert order[1] == 2


def test_nothing_keeps_a_step_alive() -> None:
    step = make(prefetch=True)
    step()
    gone = weakref.ref(step)
    gc.disable()
    try:
        del step
        assert gone() is None
    finally:
        gc.enable()


def test_images_in_channels_last_are_not_copied() -> None:
    for channels in (1, 3):
        data = images(8, channels).contiguous(memory_format=torch.channels_last)
        step = TrainingStep(SPEC, InfoGAN(SPEC, 16, channels), Objective(), data, 4)
        assert step.images.data_ptr() == data.data_ptr()


@pytest.mark.gpu
def test_images_in_host_memory_reach_the_device_ahead() -> None:
    host, device = make(prefetch=False, device="cuda"), make(prefetch=False, device="cuda")
    device.images = device.images.cuda()
    device.order = device.order.cuda()
    device._prefetcher = None
    for _ in range(4):
        host()
        device()
    for (name, a), (_, b) in zip(
        host.networks.named_parameters(), device.networks.named_parameters(), strict=True
    ):
        assert torch.equal(a, b), name
