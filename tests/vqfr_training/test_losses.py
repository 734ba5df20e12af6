"""The losses against sums done by hand."""

import math

import pytest
import torch
from vqfr_training.vqfr.losses import (
    code_alignment_loss,
    codebook_loss,
    face_weight,
    gradient_l1,
    missing_detail,
    straight_through,
    weighted_l1,
)


def test_weighted_l1_is_the_mean_absolute_difference() -> None:
    output = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    target = torch.tensor([[[[0.0, 4.0], [3.0, 1.0]]]])
    assert weighted_l1(output, target).item() == pytest.approx((1 + 2 + 0 + 3) / 4)
    weight = torch.tensor([[2.0, 0.0], [1.0, 1.0]])
    assert weighted_l1(output, target, weight).item() == pytest.approx((2 + 0 + 0 + 3) / 4)


def test_missing_detail_is_the_energy_that_is_lacking() -> None:
    target = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    assert missing_detail(target, target).item() == pytest.approx(0, abs=1e-6)
    # Half as large in every band: a quarter of the energy, 6.02 dB.
    halved = missing_detail(target / 2, target)
    assert halved.item() == pytest.approx(20 * math.log10(2), abs=0.01)
    assert missing_detail(target * 2, target).item() == 0
    one = torch.stack([target[0], target[1] / 2])
    assert missing_detail(one, target).item() == pytest.approx(halved.item() / 2, abs=0.01)
    # Brightness and colour alone are no detail.
    shift = torch.tensor([0.2, 0.2, 0.2])[:, None, None]
    assert missing_detail(target + shift, target).item() == pytest.approx(0, abs=1e-4)


def test_gradient_l1_by_hand() -> None:
    error = torch.tensor([[[[1.0, 3.0], [0.0, 5.0]]]])
    by_hand = (2 + 5) / 2 + (1 + 2) / 2
    assert gradient_l1(error, torch.zeros_like(error), scales=(1,)).item() == pytest.approx(by_hand)
    # A constant offset has no gradient at any scale, whatever the weights.
    flat = torch.full((1, 3, 8, 8), 0.7)
    assert gradient_l1(flat, torch.zeros_like(flat), torch.rand(8, 8)).item() == 0


def test_gradient_l1_at_scale_two_sees_means_of_four_pixels() -> None:
    error = torch.zeros(1, 1, 4, 4)
    error[..., :2, :2] = 4.0
    # Means of 2 x 2 pixels: 4 0 / 0 0, so one of two differences is 4, in each direction.
    assert gradient_l1(error, torch.zeros_like(error), scales=(2,)).item() == pytest.approx(4.0)
    weight = torch.ones(4, 4) * 0.5
    assert gradient_l1(error, torch.zeros_like(error), weight, scales=(2,)).item() == pytest.approx(
        2.0
    )


def test_codebook_loss_splits_its_gradient_as_equation_3() -> None:
    latent = torch.tensor([[[[1.0]], [[2.0]]]], requires_grad=True)
    quantized = torch.tensor([[[[0.0]], [[4.0]]]], requires_grad=True)
    loss = codebook_loss(latent, quantized, beta=0.25)
    assert loss.item() == pytest.approx(1.25 * (1 + 4) / 2)
    torch.autograd.backward(loss)
    assert latent.grad is not None
    assert quantized.grad is not None
    # d/dz of the mean of two squares is the difference; the commitment's part is a quarter.
    assert latent.grad.flatten().tolist() == pytest.approx([0.25, -0.5])
    assert quantized.grad.flatten().tolist() == pytest.approx([-1.0, 2.0])


def test_code_alignment_moves_the_latent_only() -> None:
    latent = torch.tensor([1.0, 5.0], requires_grad=True)
    code = torch.tensor([0.0, 2.0], requires_grad=True)
    loss = code_alignment_loss(latent, code)
    assert loss.item() == pytest.approx((1 + 9) / 2)
    torch.autograd.backward(loss)
    assert latent.grad is not None
    assert latent.grad.tolist() == pytest.approx([1.0, 3.0])
    assert code.grad is None


def test_straight_through_passes_values_forward_and_gradients_back() -> None:
    latent = torch.tensor([1.0, 5.0], requires_grad=True)
    quantized = torch.tensor([0.0, 2.0], requires_grad=True)
    passed = straight_through(latent, quantized)
    assert passed.tolist() == quantized.tolist()
    torch.autograd.backward((passed * torch.tensor([3.0, 7.0])).sum())
    assert latent.grad is not None
    assert latent.grad.tolist() == [3.0, 7.0]
    assert quantized.grad is None


def test_face_weight_peaks_on_the_face_and_has_mean_one() -> None:
    weight = face_weight(64, peak=3.0)
    assert weight.mean().item() == pytest.approx(1, abs=1e-5)
    assert (weight[38, 32] / weight[0, 0]).item() == pytest.approx(3, rel=0.01)
    assert torch.equal(face_weight(64, peak=1.0), torch.ones(64, 64))
    with pytest.raises(ValueError, match="peak"):
        face_weight(64, peak=0.5)
