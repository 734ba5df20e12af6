"""The sample that k-means sees: even over all latents, exact after a resumption."""

import numpy as np
import pytest
import torch
from vqfr_training.vqfr.reservoir import Reservoir, reestimate_codebook


def step(number: int, *, count: int = 8) -> torch.Tensor:
    """Latents (2, 1, 2, count / 4) of a step, each its own number."""
    return (number * count + torch.arange(count, dtype=torch.float32)).reshape(2, 1, 2, -1)


def filled(first: int, last: int, reservoir: Reservoir | None = None) -> Reservoir:
    reservoir = Reservoir(16, 1) if reservoir is None else reservoir
    for number in range(first, last):
        reservoir.add(step(number), np.random.default_rng([3, number]))
    return reservoir


def test_it_fills_up_first() -> None:
    assert filled(0, 0).vectors().shape == (0, 1)
    assert filled(0, 1).vectors().flatten().tolist() == list(range(8))
    assert filled(0, 2).vectors().flatten().tolist() == list(range(16))


def test_it_is_an_even_sample_of_all_that_came() -> None:
    held = np.concatenate(
        [
            filled_with(seed).vectors().flatten().numpy() // 8  # the step that each is from
            for seed in range(200)
        ]
    )
    counts = np.bincount(held.astype(int), minlength=20)
    # 3200 draws from 20 steps: 160 each, standard deviation 12.
    assert counts.sum() == 3200
    assert counts.min() > 160 - 4 * 12
    assert counts.max() < 160 + 4 * 12


def filled_with(seed: int) -> Reservoir:
    reservoir = Reservoir(16, 1)
    for number in range(20):
        reservoir.add(step(number), np.random.default_rng([seed, number]))
    assert len(set(reservoir.vectors().flatten().tolist())) == 16  # no vector twice
    return reservoir


def test_one_step_larger_than_it_is_sampled_from_all_its_pictures() -> None:
    """f = 8: 65 536 vectors a step for 16 384 places."""
    held = []
    for seed in range(50):
        reservoir = Reservoir(16, 1)
        reservoir.add(step(0, count=64), np.random.default_rng(seed))
        held.append(reservoir.vectors().mean().item())
    assert np.mean(held) == pytest.approx(31.5, abs=3)  # the first sixteen would give 7.5


def test_it_forgets_and_comes_back_from_a_checkpoint() -> None:
    whole = filled(0, 9).vectors()
    first = filled(0, 5)
    again = Reservoir(16, 1)
    again.load_state(first.state())
    assert torch.equal(filled(5, 9, again).vectors(), whole)
    again.empty()
    assert len(again.vectors()) == 0
    assert filled(7, 8, again).vectors().flatten().tolist() == list(range(56, 64))


def test_k_means_fills_the_codebook_with_centres_of_the_latents() -> None:
    generator = torch.Generator().manual_seed(0)
    centres = 10 * torch.randn(16, 16, generator=generator)
    noise = 0.01 * torch.randn(64, 16, 16, generator=generator)
    latents = (centres + noise).flatten(0, 1)
    with pytest.raises(ValueError, match="too few"):
        reestimate_codebook(latents[:15], size=16, seed=0)
    mixed = latents[torch.randperm(len(latents), generator=generator)]
    codebook, distance = reestimate_codebook(mixed, size=16, seed=10)
    nearest = torch.cdist(latents, codebook).min(dim=1).values
    assert distance == pytest.approx(nearest.square().mean().item() / 16, rel=0.05)
    assert len(torch.cdist(latents, codebook).argmin(dim=1).unique()) == 16  # type: ignore[no-untyped-call]
