"""The course for a lent GPU, rehearsed on a CPU in three tiny steps a stage."""

import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torchvision.models import vgg16
from vqfr_training.configs import Stage1, Stage2
from vqfr_training.gpu_recipes import lite_gpu, rehearsed
from vqfr_training.loop import run_series

from tests.vqfr_training.logs import losses
from vqfr_media.network.checkpoint import load_network
from vqfr_media.network.dlib_identity import DlibIdentity, published_name


@pytest.fixture(scope="module")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Files of VGG-16's and dlib's shapes, with weights from a generator."""
    folder = tmp_path_factory.mktemp("weights")
    generator = torch.Generator().manual_seed(0)
    with torch.device("meta"):
        shapes = vgg16(weights=None).features.state_dict(prefix="features.")
        faces = DlibIdentity().state_dict()
    torch.save(
        {name: 0.02 * torch.randn(v.shape, generator=generator) for name, v in shapes.items()},
        folder / "vgg.pth",
    )
    save_file(
        {
            published_name(name): 0.05 * torch.randn(v.shape, generator=generator)
            for name, v in faces.items()
        },
        folder / "dlib.safetensors",
    )
    return folder / "vgg.pth", folder / "dlib.safetensors"


def test_the_course_is_what_a_gpu_wants() -> None:
    first, second = lite_gpu().recipes
    assert isinstance(first.stage, Stage1)
    assert isinstance(second.stage, Stage2)
    for recipe in (first, second):
        assert recipe.precision == "bfloat16"
        assert recipe.batch >= 32
        assert recipe.stage.perceptual is not None
        assert recipe.stage.perceptual.channels == "equal"
    assert second.stage.identity > 0
    assert {discriminator.kind for discriminator in second.stage.discriminators} == {
        "patch",
        "wavelet",
    }
    assert first.network == second.network


@pytest.mark.slow  # VGG-16 in bfloat16 on a CPU: minutes
@pytest.mark.usefixtures("one_thread")
def test_it_runs_in_calls_and_ends_the_same(
    drawn_faces: Path, tmp_path: Path, strangers: tuple[Path, Path]
) -> None:
    series = rehearsed(lite_gpu(), steps=3, batch=2, size=64)
    vgg, identity = strangers

    def go(out: Path, *, resume: bool, deadline: float | None) -> None:
        run_series(
            series,
            data=drawn_faces,
            out=out,
            vgg=vgg,
            identity=identity,
            resume=resume,
            workers=1,
            deadline=deadline,
        )

    whole, parts = tmp_path / "whole", tmp_path / "parts"
    go(whole, resume=False, deadline=None)
    for call in range(6):  # a time limit that has passed: one step a call
        go(parts, resume=call > 0, deadline=time.monotonic())
    for name in ("lite_gpu_stage1", "lite_gpu_stage2"):
        logs = [losses(folder / name) for folder in (whole, parts)]
        totals = [[line["total"] for line in log if "total" in line] for log in logs]
        assert len(totals[0]) == 3
        assert totals[0] == totals[1]
    second = [line for line in losses(whole / "lite_gpu_stage2") if "total" in line][-1]
    assert {
        "main_identity",
        "main_content",
        "main_patch",
        "main_wavelet_discriminator",
    } <= second.keys()
    exported = [
        load_network(folder / "lite_gpu_stage2" / "network.safetensors").state_dict()
        for folder in (whole, parts)
    ]
    for name, value in exported[0].items():
        assert torch.equal(value, exported[1][name]), name
