"""Each metric against another library, a plain implementation or a case done by hand."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.linalg import sqrtm
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor, nn
from vqfr_training.evaluation.arcface import ResnetFace18
from vqfr_training.evaluation.face_networks import (
    angle,
    arcface_crop,
    decode_heat_maps,
    load_awing,
    load_ir_se50,
    load_resnet18,
)
from vqfr_training.evaluation.metrics import (
    Fid,
    load_lpips,
    match_colours,
    psnr,
    psnr_matched,
    read_statistics,
    ssim,
    ssim_matched,
)

from vqfr_media.errors import CheckpointError
from vqfr_media.faces.align import template

CPU = torch.device("cpu")

Picture = NDArray[np.uint8]


def pair(height: int = 48, width: int = 70) -> tuple[Picture, Picture]:
    """A smooth picture, and the same with noise and another tint."""
    y, x = np.mgrid[0:height, 0:width] / 20
    truth = np.stack([128 + 90 * np.sin(x + c) * np.cos(y * c) for c in (1, 2, 3)], axis=2)
    noise = np.random.default_rng(1).normal(0, 12, truth.shape)
    worse = np.clip(0.8 * truth + noise + [20, 5, 0], 0, 255)
    return worse.astype(np.uint8), truth.astype(np.uint8)


def test_psnr_and_ssim_are_those_of_scikit_image() -> None:
    for restored, truth in (pair(), pair(64, 33)):
        expected = peak_signal_noise_ratio(truth, restored, data_range=255)  # type: ignore[no-untyped-call]
        assert psnr(restored, truth) == pytest.approx(expected, abs=1e-5)
        terms = structural_similarity(  # type: ignore[no-untyped-call]
            truth,
            restored,
            channel_axis=2,
            data_range=255,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
        assert ssim(restored, truth) == pytest.approx(terms, abs=5e-5)
    assert psnr(truth, truth) == float("inf")
    assert ssim(truth, truth) == pytest.approx(1, abs=1e-6)


def test_matched_colours_by_hand() -> None:
    restored, truth = pair()
    expected = restored.astype(np.float64)
    for channel in range(3):  # in floats one affine map does what the two rounds do
        own, wanted = expected[..., channel], truth[..., channel].astype(np.float64)
        expected[..., channel] = (own - own.mean()) / own.std() * wanted.std() + wanted.mean()
    matched = match_colours(restored, truth)
    np.testing.assert_allclose(matched.std((0, 1)), truth.std((0, 1)), rtol=1e-9)
    # The script scales about zero, not about the mean; its second round repairs the mean.
    np.testing.assert_allclose(matched, expected, atol=0.5)
    assert psnr_matched(restored, truth) > psnr(restored, truth) + 1
    assert ssim_matched(restored, truth) != ssim(restored, truth)
    # A tint and a contrast are no error to the paper's script; a flat picture stays flat.
    assert psnr_matched((truth * 0.5 + 30).astype(np.uint8), truth) > 45
    assert np.isfinite(match_colours(np.full_like(truth, 9), truth)).all()


class Means(nn.Module):
    """Stands in for Inception: means and deviations of the channels."""

    num_features = 6

    def forward(self, pictures: Tensor) -> Tensor:
        pixels = pictures.double().flatten(2)
        return torch.cat([pixels.mean(2), pixels.std(2)], dim=1)


def pictures(seed: int, count: int, brightness: float) -> list[Picture]:
    generator = np.random.default_rng(seed)
    levels = generator.uniform(0, 120, (count, 1, 1, 3)) + brightness
    noise = generator.normal(0, 1, (count, 24, 20, 3)) * generator.uniform(2, 20, (count, 1, 1, 1))
    return list(np.clip(levels + noise, 0, 255).astype(np.uint8))


def test_fid_is_the_formula(tmp_path: Path) -> None:
    one, other = pictures(0, 40, 40), pictures(1, 30, 70)
    network = Means()
    fid = Fid(network, CPU)
    sides = []
    for some, reference in ((one, False), (other, True)):
        rows = []
        for picture in some:
            fid.add(picture, reference=reference)
            tensor = torch.from_numpy(picture.copy()).permute(2, 0, 1)[None].float()
            big = nn.functional.interpolate(tensor, (299, 299), mode="bilinear")
            rows.append(network(big.round().byte())[0].numpy())
        sides.append((np.mean(rows, axis=0), np.cov(np.array(rows).T)))
    (mean, covariance), (true_mean, true_covariance) = sides
    root = sqrtm(covariance @ true_covariance).real
    expected = np.sum((mean - true_mean) ** 2)
    expected += np.trace(covariance + true_covariance - 2 * root)
    assert fid.compute() == pytest.approx(float(expected), rel=1e-6)

    # The same from a file, in either of the formats that go about.
    np.savez(tmp_path / "stats.npz", mu=true_mean, sigma=true_covariance)
    torch.save({"name": "x", "mean": true_mean, "cov": true_covariance}, tmp_path / "stats.pth")
    for name in ("stats.npz", "stats.pth"):
        again = Fid(network, CPU)
        again.set_reference(tmp_path / name)
        for picture in one:
            again.add(picture, reference=False)
        assert again.compute() == pytest.approx(float(expected), rel=1e-6)


def test_statistics_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", mean=np.zeros(3))
    torch.save([1, 2], tmp_path / "list.pth")
    (tmp_path / "no.pth").write_bytes(b"x")
    for name in ("other.npz", "list.pth", "no.pth"):
        with pytest.raises(ValueError, match=f"{name} holds no FID statistics"):
            read_statistics(tmp_path / name)
    np.savez(tmp_path / "small.npz", mu=np.zeros(3), sigma=np.eye(3))
    with pytest.raises(ValueError, match="3 features"):
        Fid(Means(), CPU).set_reference(tmp_path / "small.npz")


def test_peaks_of_heat_maps() -> None:
    maps = np.zeros((3, 8, 10), np.float32)
    maps[0, 4, 6], maps[0, 4, 7], maps[0, 3, 6] = 1, 0.5, 0.2  # leans right and up
    maps[1, 0, 0], maps[1, 1, 0] = 1, 0.5  # in the corner
    maps[2, 7, 9] = 1
    expected = [[6.75, 4.25], [0.5, 0.5], [9.5, 7.5]]
    np.testing.assert_allclose(decode_heat_maps(maps), expected)


def test_arcface_sees_the_landmarks_where_it_wants_them() -> None:
    wanted = np.array(
        [[38.29, 51.70], [73.53, 51.50], [56.03, 71.74], [41.55, 92.37], [70.73, 92.2]]
    )
    for size in (256, 512):
        for point, target in zip(template(size), wanted, strict=True):
            face = np.zeros((size, size, 3), np.uint8)
            cv2.circle(face, tuple(np.rint(point).astype(int).tolist()), size // 40, (255,) * 3, -1)
            weight = arcface_crop(face)[..., 0]
            y, x = np.mgrid[0:112, 0:112]
            centre = np.array([(weight * x).sum(), (weight * y).sum()]) / weight.sum()
            # FFHQ's template and ArcFace's are not quite similar.
            assert np.linalg.norm(centre - target) < 3


def test_angles_by_hand() -> None:
    assert angle(np.array([2.0, 0]), np.array([3.0, 3.0])) == pytest.approx(45)
    assert angle(np.array([1.0, 0]), np.array([-2.0, 0])) == pytest.approx(180)


@pytest.mark.slow
def test_the_papers_recogniser_loads_and_sees(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = ResnetFace18().eval()
    # 17 convolutions, 3 shortcuts and a layer of 32768 × 512, as in GFPGAN's arcface_arch.py.
    shapes = [tuple(p.shape) for p in network.parameters() if p.ndim > 1]
    assert len(shapes) == 17 + 3 + 1
    assert shapes[-1] == (512, 512 * 8 * 8)
    assert {"layer2.0.downsample.1.running_mean", "layer4.1.bn0.weight", "bn5.weight"} <= set(
        network.state_dict()
    )
    state = {f"module.{name}": value for name, value in network.state_dict().items()}
    torch.save(state, tmp_path / "resnet18_110.pth")
    embed = load_resnet18(tmp_path / "resnet18_110.pth", CPU)
    picture = pair(128, 128)[0]
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32)
    with torch.no_grad():
        expected = network(torch.from_numpy((grey - 127.5) / 127.5)[None, None])[0]
    np.testing.assert_allclose(embed(picture), expected.numpy(), rtol=1e-4, atol=1e-5)
    torch.save({"bn1.weight": torch.ones(3)}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match=r"other\.pth does not hold a ResnetFace18"):
        load_resnet18(tmp_path / "other.pth", CPU)


@pytest.mark.slow
def test_facexlibs_networks_load_and_see(tmp_path: Path) -> None:
    from facexlib.alignment.awing_arch import FAN
    from facexlib.recognition.arcface_arch import Backbone

    torch.manual_seed(0)
    picture = cv2.resize(pair()[0], (512, 512)).astype(np.uint8)
    torch.save(Backbone(50, 0.6, "ir_se").state_dict(), tmp_path / "arcface.pth")
    embedded = load_ir_se50(tmp_path / "arcface.pth", CPU)(picture)
    assert embedded.shape == (512,)
    assert np.linalg.norm(embedded) == pytest.approx(1, abs=1e-5)
    fan = FAN(num_modules=4, num_landmarks=98, device="cpu")
    torch.save({"state_dict": fan.state_dict(), "epoch": 3}, tmp_path / "awing.pth")
    landmarks = load_awing(tmp_path / "awing.pth", CPU)(picture)
    assert landmarks.shape == (98, 2)
    assert landmarks.min() >= 0
    assert landmarks.max() <= 512
    # The same by facexlib's network alone: the peak of each map lies within a cell of 8 px.
    small = cv2.resize(picture, (256, 256)).astype(np.float32) / 255
    with torch.no_grad():
        maps = fan.eval()(torch.from_numpy(small).permute(2, 0, 1)[None])[0][-1][0, :98]
    peaks = maps.flatten(1).argmax(dim=1).numpy()
    cells = np.stack([peaks % 64, peaks // 64], axis=1)
    np.testing.assert_allclose(landmarks, cells * 8 + 4, atol=2)


@pytest.mark.slow
def test_lpips_is_the_formula(tmp_path: Path) -> None:
    from torchmetrics.functional.image import lpips as torchmetrics_lpips
    from torchvision.models import vgg16

    torch.manual_seed(0)
    vgg = vgg16(weights=None)
    state = {k: v for k, v in vgg.state_dict().items() if k.startswith("features")}
    torch.save(state, tmp_path / "vgg.pth")
    restored, truth = pair(64, 64)
    score = load_lpips(tmp_path / "vgg.pth", CPU)
    linear = torch.load(
        Path(torchmetrics_lpips.__file__).parent / "lpips_models" / "vgg.pth",
        map_location="cpu",
        weights_only=True,
    )
    shift, scale = torch.tensor([-0.030, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.450])
    features = []
    for picture in (restored, truth):
        x = (torch.from_numpy(picture.copy()).float() / 127.5 - 1 - shift) / scale
        x = x.permute(2, 0, 1)[None]
        taken = []
        with torch.no_grad():
            for number, layer in enumerate(vgg.features[:30]):
                x = layer(x)
                if number in (3, 8, 15, 22, 29):
                    taken.append(x / (x.square().sum(1, keepdim=True) + 1e-8).sqrt())
        features.append(taken)
    expected = sum(
        float(((a - b).square() * linear[f"lin{number}.model.1.weight"]).sum(1).mean())
        for number, (a, b) in enumerate(zip(*features, strict=True))
    )
    assert score(restored, truth) == pytest.approx(expected, rel=1e-4)
    assert score(truth, truth) == pytest.approx(0, abs=1e-7)
    torch.save({}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match=r"other\.pth does not hold torchvision's VGG-16"):
        load_lpips(tmp_path / "other.pth", CPU)


@pytest.mark.slow
def test_fid_with_the_real_network(tmp_path: Path) -> None:
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    torch.manual_seed(0)
    blank = tmp_path / "weights.pth"

    class Untrained(FeatureExtractorInceptionV3):  # type: ignore[misc]
        def load_state_dict(self, *_: object, **__: object) -> None:
            """Keep the drawn weights."""

    torch.save({}, blank)
    drawn = Untrained("inception-v3-compat", ["2048"], str(blank))
    torch.save(drawn.state_dict(), blank)
    fid = Fid(blank, CPU)
    for seed, reference in ((0, True), (1, False)):
        for picture in pictures(seed, 2, 60):
            fid.add(picture, reference=reference)
    assert np.isfinite(fid.compute())
