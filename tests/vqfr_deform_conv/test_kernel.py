"""The kernel against torchvision: in Triton's interpreter anywhere, on a GPU where there is one."""

import os
import subprocess
import sys

import pytest
import torch
from vqfr_deform_conv.operator import by_kernel
from vqfr_deform_conv.tiling import TACTICS, tile_of_tactic, tiles

from tests.paths import ROOT
from tests.vqfr_deform_conv.deform_cases import assert_as_expected, computed, draw

GPU = [
    pytest.mark.needs_cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here"),
]


@pytest.mark.parametrize("which", ["not slow", pytest.param("slow", marks=pytest.mark.slow)])
def test_numbers_in_the_interpreter(which: str) -> None:
    tests = "tests/vqfr_deform_conv/interpreted_kernel.py"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-m", which, tests],
        cwd=ROOT,
        env=os.environ | {"TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=1800,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout


class TestOnAGpu:
    pytestmark = GPU

    @pytest.mark.parametrize("channels_last", [False, True])
    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
    @pytest.mark.parametrize(("channels", "size", "groups"), [(128, 64, 4), (512, 16, 4)])
    def test_every_tile(
        self, channels: int, size: int, groups: int, dtype: torch.dtype, channels_last: bool
    ) -> None:
        case = draw(
            channels=channels,
            outputs=channels,
            size=(size, size),
            groups=groups,
            dtype=dtype,
            channels_last=channels_last,
        )
        found = case.to("cuda")
        for cut in tiles(case.convolution, element_bytes=dtype.itemsize):
            result = by_kernel(*found.tensors, case.convolution, cut=cut)
            assert_as_expected(result, case)

    def test_operator_shapes_and_edges(self) -> None:
        for shape in (
            {"stride": 2, "padding": 2, "dilation": 3, "size": (11, 13)},
            {"kernel": (5, 5), "padding": 2},
            {"channels": 34, "outputs": 17},
            {"reach": 30.0},
        ):
            case = draw(**shape)
            assert_as_expected(computed(case.to("cuda")), case)

    def test_compiled_graphs_compute_the_same(self) -> None:
        case = draw(channels=64, outputs=64, size=(32, 32), dtype=torch.float16, channels_last=True)
        found = case.to("cuda")

        def work(*tensors: torch.Tensor) -> torch.Tensor:
            return computed(case, tensors).relu()

        expected = work(*found.tensors)
        assert torch.equal(torch.compile(work)(*found.tensors), expected)

    @pytest.mark.slow
    def test_a_batch_of_more_than_2_31_values(self) -> None:
        case = draw(images=1, channels=128, outputs=16, size=(512, 512), dtype=torch.float16)
        one = case.to("cuda")
        images = 2**31 // one.x.numel() + 1
        many = [t.expand(images, *t.shape[1:]) for t in (one.x, one.offset, one.mask)]
        result = computed(case, [*many, one.weight, one.bias])
        expected = computed(one)
        assert torch.equal(result[-1:], expected)
        assert torch.equal(result[:1], expected)


def test_there_are_as_many_tiles_as_tensorrt_is_told() -> None:
    convolution = draw().convolution
    assert [len(tiles(convolution, element_bytes=size)) for size in (2, 4)] == [TACTICS, TACTICS]


def test_every_tactic_of_tensorrts_is_a_tile_and_0_the_smallest() -> None:
    convolution = draw().convolution
    for size in (2, 4):
        known = tiles(convolution, element_bytes=size)
        found = [tile_of_tactic(convolution, n, element_bytes=size) for n in range(TACTICS + 1)]
        assert found == [known[-1], *known]
        assert all(known[-1].pixels <= t.pixels and known[-1].outputs <= t.outputs for t in known)
        for tactic in (-1, TACTICS + 1):
            with pytest.raises(ValueError, match=rf"tactic {tactic} is not within 0\.\.{TACTICS}"):
                tile_of_tactic(convolution, tactic, element_bytes=size)
