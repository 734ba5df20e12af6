"""The perceptual term against sums done by hand, and where its networks come from."""

import warnings
from pathlib import Path

import pytest
import torch
import torchvision
from torchmetrics.functional.image.lpips import _LPIPS
from vqfr_training.recipes import smoke_stage1
from vqfr_training.vqfr.networks import codebook_network
from vqfr_training.vqfr.perceptual import (
    PerceptualConfig,
    Vgg16,
    content_loss,
    encoder_features,
    gram,
    load_vgg16,
    middle_of_face,
    perceptual_losses,
    style_loss,
    unit,
)

from vqfr_media.network.vqgan import Vqgan


def test_unit_vectors_by_hand() -> None:
    feature = torch.tensor([3.0, 4.0]).reshape(1, 2, 1, 1).expand(1, 2, 2, 2)
    torch.testing.assert_close(unit(feature)[0, :, 1, 1], torch.tensor([0.6, 0.8]))
    assert torch.isfinite(unit(torch.zeros(1, 2, 2, 2))).all()


def test_content_loss_by_hand() -> None:
    a = torch.tensor([2.0, 0.0]).reshape(1, 2, 1, 1).expand(1, 2, 2, 2).clone()
    b = torch.tensor([0.0, 5.0]).reshape(1, 2, 1, 1).expand(1, 2, 2, 2).clone()
    b[..., 0, :] = a[..., 0, :]  # the same in half of the places
    # Unit vectors at right angles are a squared distance of 2 apart.
    assert content_loss([a, a], [b, a]).item() == pytest.approx(1.0)
    assert content_loss([a, a], [b, b]).item() == pytest.approx(2.0)


def test_gram_and_style_by_hand() -> None:
    feature = torch.tensor([[1.0, 2.0], [3.0, 0.0]]).reshape(1, 2, 1, 2)  # (channel, place)
    # Sums over the two places of products of channels, over C · h · w = 4.
    by_hand = torch.tensor([[[5.0, 3.0], [3.0, 9.0]]]) / 4
    torch.testing.assert_close(gram(feature), by_hand)
    right = torch.tensor([1.0, 0.0]).reshape(1, 2, 1, 1)
    up = torch.tensor([0.0, 1.0]).reshape(1, 2, 1, 1)
    # Gram matrices diag(1, 0)/2 and diag(0, 1)/2: two of four elements differ by a half.
    assert style_loss([right], [up]).item() == pytest.approx(0.25)
    # Where things are does not matter to the style.
    image = torch.rand(1, 3, 4, 4)
    assert style_loss([image], [image.flip(3)]).item() == pytest.approx(0, abs=1e-6)


def test_the_terms_are_weighted_and_style_may_be_left_out() -> None:
    a, b = [torch.rand(1, 3, 4, 4)], [torch.rand(1, 3, 4, 4)]
    both = perceptual_losses(a, b, PerceptualConfig(network="vgg16", content=0.5, style=2000.0))
    assert both["content"].item() == pytest.approx(0.5 * content_loss(a, b).item())
    assert both["style"].item() == pytest.approx(2000 * style_loss(a, b).item())
    assert set(perceptual_losses(a, b, PerceptualConfig(network="vgg16", style=0.0))) == {"content"}


def test_encoder_features_are_those_on_the_encoder_s_way() -> None:
    recipe = smoke_stage1()
    network = codebook_network(recipe.network)
    assert isinstance(network, Vqgan)
    encoder, image = network.encoder, torch.rand(2, 3, 64, 64) * 2 - 1
    features = encoder_features(encoder)(image)
    assert [tuple(f.shape) for f in features] == [(2, 16, 32, 32), (2, 32, 16, 16)]
    feature = features[-1]
    for finish in encoder.enc_convout_dict.values():
        feature = finish(feature)
    torch.testing.assert_close(feature, encoder(image))


def test_vgg16_from_a_file_is_torchvision_s(tmp_path: Path) -> None:
    torch.manual_seed(0)
    whole = torchvision.models.vgg16(weights=None)
    torch.save(whole.state_dict(), tmp_path / "vgg16.pth")
    network = load_vgg16(tmp_path / "vgg16.pth")
    assert not any(parameter.requires_grad for parameter in network.parameters())
    image = torch.rand(1, 3, 32, 32)
    mean = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
    deviation = torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    x = (image - mean) / deviation
    expected = []
    with torch.no_grad():
        for number, layer in enumerate(whole.features[:30]):
            x = layer(x)
            if number in (3, 8, 15, 22, 29):
                expected.append(x.clone())
        features = network(image * 2 - 1)
    assert [f.shape[1] for f in features] == [64, 128, 256, 512, 512]
    for feature, wanted in zip(features, expected, strict=True):
        torch.testing.assert_close(feature, wanted, atol=1e-4, rtol=1e-4)


def test_without_vgg16_both_ways_out_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match="no VGG-16 weights at"):
        load_vgg16(tmp_path / "absent.pth")
    (tmp_path / "broken.pth").write_bytes(b"no weights")
    with pytest.raises(ValueError, match="--vgg"):
        load_vgg16(tmp_path / "broken.pth")
    torch.save({"features.0.weight": torch.zeros(64, 3, 3, 3)}, tmp_path / "part.pth")
    with pytest.raises(ValueError, match="features"):
        load_vgg16(tmp_path / "part.pth")
    # An empty cache and a server that cannot be reached.
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "cache"))
    monkeypatch.setattr(
        "vqfr_training.vqfr.perceptual.VGG_URL", "http://127.0.0.1:9/vgg16-397923af.pth"
    )
    with pytest.raises(ValueError, match=r"--vgg PATH.*or let http"):
        load_vgg16()


def test_the_content_loss_is_lpips() -> None:
    """Against torchmetrics' own computation, with random VGG weights and LPIPS's learned ones."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of pretrained weights that are not asked for
        theirs = _LPIPS(pretrained=True, net="vgg", pnet_rand=True)
    ours = Vgg16()
    layers = [
        layer
        for slice_ in (theirs.net.slice1, theirs.net.slice2, theirs.net.slice3, theirs.net.slice4,
                       theirs.net.slice5)
        for layer in slice_
    ]  # fmt: skip
    for mine, other in zip(ours.features, layers, strict=False):
        mine.load_state_dict(other.state_dict())
    generator = torch.Generator().manual_seed(1)
    a, b = (torch.rand(1, 3, 64, 64, generator=generator) * 2 - 1 for _ in range(2))
    with torch.no_grad():
        found = content_loss(ours(a), ours(b), ours.channel_weights)
        assert found.item() == pytest.approx(theirs(a, b).item(), rel=1e-3)
    assert found > 0.01
    assert ours.channel_weights is not None
    means = [weight.mean().item() for weight in ours.channel_weights]
    assert means == pytest.approx([0.108, 0.069, 0.068, 0.101, 0.092], abs=1e-3)


def test_vgg16_computed_again_going_back_has_the_same_gradients() -> None:
    torch.manual_seed(0)
    kept = Vgg16()
    again = Vgg16(recompute=True)
    again.load_state_dict(kept.state_dict())
    gradients = []
    for network in (kept, again):
        image = torch.linspace(-1, 1, 3 * 32 * 32).reshape(1, 3, 32, 32).requires_grad_(True)
        torch.autograd.backward(sum(level.square().mean() for level in network(image)))
        gradients.append(image.grad)
    torch.testing.assert_close(gradients[1], gradients[0])


def test_equal_channels_need_no_lpips_and_levels_may_be_fewer() -> None:
    network = Vgg16(channels="equal", levels=2)
    assert network.channel_weights is None
    image = torch.rand(1, 3, 32, 32) * 2 - 1
    found = network(image)
    assert [tuple(level.shape[1:]) for level in found] == [(64, 32, 32), (128, 16, 16)]
    whole = Vgg16()
    whole.features[: len(network.features)].load_state_dict(network.features.state_dict())
    for few, all_of_them in zip(found, whole(image)[:2], strict=True):
        torch.testing.assert_close(few, all_of_them)
    # Without weights each channel counts one: the squared distance of unit vectors.
    other = network(image.flip(3))
    by_hand = sum(
        (unit(a) - unit(b)).square().sum(1).mean() for a, b in zip(found, other, strict=True)
    )
    torch.testing.assert_close(content_loss(found, other, network.channel_weights), by_hand)


@pytest.mark.parametrize(("levels", "window"), [(0, 1.0), (6, 1.0), (3, 0.0), (3, 1.5)])
def test_levels_and_window_are_checked(levels: int, window: float) -> None:
    with pytest.raises(ValueError, match=r"levels|window"):
        PerceptualConfig(network="vgg16", levels=levels, window=window)


def test_the_window_holds_eyes_and_mouth() -> None:
    image = torch.zeros(1, 1, 256, 256)
    marks = [(96, 120), (159, 120), (128, 157), (101, 186), (157, 186)]
    for x, y in marks:
        image[..., y, x] = 1
    seen = middle_of_face(image, 0.4)
    assert seen.shape == (1, 1, 102, 102)
    assert seen.sum() == len(marks)
    assert middle_of_face(image, 1.0) is image
