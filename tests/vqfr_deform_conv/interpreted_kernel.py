"""The kernel's numbers in Triton's interpreter; `test_kernel.py` runs this, TRITON_INTERPRET=1 set.

Pytest does not collect this file by itself: Triton decides when it is imported whether its kernels
are interpreted, so this needs a process of its own.
"""

from typing import Any

import numpy as np
import pytest
import torch
import triton
import triton.language as tl
from triton.runtime import interpreter
from vqfr_deform_conv.operator import by_kernel
from vqfr_deform_conv.tiling import TACTICS, Tile, tiles

from tests.vqfr_deform_conv import deform_cases
from tests.vqfr_deform_conv.deform_cases import Case, assert_as_expected, expected

LAYOUTS = [pytest.param(False, id="nchw"), pytest.param(True, id="nhwc")]
TYPES = [torch.float32, torch.float16, torch.bfloat16]
EDGES = (0, TACTICS // 2, TACTICS - 1)
"""Places of the largest tile, one between, and the smallest."""
SHAPES: list[dict[str, Any]] = [
    {"stride": 2},
    {"stride": 3, "padding": 0},
    {"padding": 0},
    {"padding": 3, "size": (3, 4)},
    {"dilation": 2},
    {"stride": 2, "padding": 2, "dilation": 3, "size": (11, 13)},
    {"kernel": (1, 1), "padding": 0},
    {"kernel": (2, 2)},
    {"kernel": (5, 5), "padding": 2, "size": (5, 4)},
    {"kernel": (1, 3)},
    {"kernel": (4, 2), "stride": 2},
    {"groups": 1},
    {"groups": 4},
    {"groups": 8, "size": (5, 6)},
    {"images": 1, "size": (1, 1)},
    {"images": 3, "size": (1, 12)},
    {"channels": 3, "groups": 1, "outputs": 1},
    {"channels": 34, "outputs": 17, "groups": 2},
    {"channels": 40, "outputs": 33, "groups": 1},
    {"channels": 72, "outputs": 24, "groups": 1, "dtype": torch.float16},
    {"channels": 6, "outputs": 150, "groups": 3, "size": (4, 4)},
    {"images": 5, "size": (4, 5)},
    {"reach": 30.0},
]


def draw(*, size: tuple[int, int] = (5, 6), **other: Any) -> Case:
    """A case whose two images are 60 pixels, one program's, where nothing else is asked for."""
    return deform_cases.draw(size=size, **other)


def run(case: Case, *, cut: Tile | None = None) -> torch.Tensor:
    """By the largest tile: the interpreter's time is that of the number of programs."""
    largest = tiles(case.convolution, element_bytes=case.x.element_size())[0]
    return by_kernel(*case.tensors, case.convolution, cut=cut or largest)


@pytest.fixture(autouse=True)
def products_of_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    """Triton 3.8's interpreter multiplies bfloat16 as integers of the same bits; float32 it can."""
    plain = interpreter.InterpreterBuilder.create_dot

    def create_dot(self: Any, a: Any, b: Any, *others: Any) -> Any:
        wide = [
            interpreter.TensorHandle(
                interpreter._convert_float(t.data, tl.bfloat16, tl.float32, None).view(np.float32),
                tl.float32,
            )
            if t.dtype.scalar == tl.bfloat16
            else t
            for t in (a, b)
        ]
        return plain(self, *wide, *others)

    monkeypatch.setattr(interpreter.InterpreterBuilder, "create_dot", create_dot)


def test_kernels_are_interpreted() -> None:
    assert triton.knobs.runtime.interpret


@pytest.mark.parametrize("channels_last", LAYOUTS)
@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_data_types(dtype: torch.dtype, channels_last: bool) -> None:
    case = draw(dtype=dtype, channels_last=channels_last)
    result = run(case)
    # The interpreter cuts to bfloat16 where hardware rounds: up to twice the error.
    assert_as_expected(result, case, slack=2 if dtype == torch.bfloat16 else 1)
    assert result.is_contiguous(memory_format=torch.channels_last) == channels_last


def in_turns() -> list[Any]:
    """Each shape in one of the layouts; in the other one it takes long."""
    return [
        pytest.param(shape, nhwc, marks=[] if nhwc == bool(number % 2) else pytest.mark.slow)
        for number, shape in enumerate(SHAPES)
        for nhwc in (False, True)
    ]


@pytest.mark.parametrize(("shape", "channels_last"), in_turns(), ids=str)
def test_shapes(shape: dict[str, Any], channels_last: bool) -> None:
    case = draw(channels_last=channels_last, **shape)
    assert_as_expected(run(case), case)


@pytest.mark.parametrize(
    ("dtype", "channels_last"),
    [(torch.float32, False), (torch.float16, False), (torch.float16, True)],
    ids=str,
)
@pytest.mark.parametrize(
    "tactic",
    [pytest.param(n, marks=[] if n in EDGES else pytest.mark.slow) for n in range(TACTICS)],
)
def test_every_tile_gives_the_same(tactic: int, dtype: torch.dtype, channels_last: bool) -> None:
    # 70 pixels; few taps, since it is programs, blocks and the ends of a tile that differ.
    case = draw(
        channels=48,
        outputs=36,
        size=(4, 6),
        kernel=(2, 2),
        groups=1,
        dtype=dtype,
        channels_last=channels_last,
    )
    cut = tiles(case.convolution, element_bytes=dtype.itemsize)[tactic]
    assert_as_expected(run(case, cut=cut), case)


@pytest.mark.parametrize("channels_last", LAYOUTS)
@pytest.mark.parametrize("axis", [0, 1])
def test_the_edges_are_torchvisions(axis: int, channels_last: bool) -> None:
    # One row (or column) of outputs for each place; the middle tap goes there, the others anywhere.
    places = torch.tensor([-1.5, -1.0, -0.999, -0.5, 0.0, 9.0, 9.5, 10.0, 10.5, 5.0])
    size = (10, 3) if axis == 0 else (3, 10)
    case = draw(images=1, size=size, groups=1, outputs=2, channels_last=channels_last)
    offset, tap = case.offset.clone(), 4
    moves = places - torch.arange(10.0)
    offset[0, 2 * tap + axis] = moves.view(-1, 1) if axis == 0 else moves.view(1, -1)
    moved = case.changed(offset=offset)
    assert_as_expected(run(moved), moved)


@pytest.mark.parametrize("channels_last", LAYOUTS)
def test_a_place_far_outside_contributes_nothing(channels_last: bool) -> None:
    case = draw(size=(3, 9), channels_last=channels_last)
    offset, mask = case.offset.clone(), case.mask.clone()
    far = torch.tensor([1e3, -1e9, 1e9, 3e9, -1e20, 3e38, float("inf"), -float("inf"), 5e9])
    offset[1, 5, 1] = far
    mask[1, 2, 1] = 0.0  # the tap whose x was sent away
    assert_as_expected(run(case.changed(offset=offset)), case.changed(mask=mask))


@pytest.mark.parametrize("channels_last", LAYOUTS)
@pytest.mark.parametrize("row", [4, 5], ids=["dy", "dx"])
def test_a_place_that_is_nan_makes_its_pixel_nan(row: int, channels_last: bool) -> None:
    case = draw(channels_last=channels_last)
    offset = case.offset.clone()
    offset[1, row, 3, 4] = float("nan")
    result = run(case.changed(offset=offset))
    lost = torch.zeros(result.shape, dtype=torch.bool)
    lost[1, :, 3, 4] = True
    assert torch.equal(result.isnan(), lost)
    exact, bound = expected(case)
    assert ((result.double() - exact).abs() <= bound)[~lost].all()


def test_coordinates_are_float32_for_half_data() -> None:
    case = draw(
        images=1,
        size=(1, 600),
        channels=16,
        groups=1,
        kernel=(1, 1),
        padding=0,
        dtype=torch.float16,
    )
    assert_as_expected(run(case), case)
    # float16 keeps multiples of 1/4 only between 256 and 512, of 1/2 above: the bound notices.
    x = torch.arange(600.0)
    rounded = case.offset.clone()
    rounded[0, 1, 0] = (x + rounded[0, 1, 0]).half().float() - x
    with pytest.raises(AssertionError, match="times the bound"):
        assert_as_expected(run(case.changed(offset=rounded)), case)


def test_offsets_and_mask_may_be_of_the_datas_type() -> None:
    case = draw(dtype=torch.float16)
    halves = case.changed(offset=case.offset.half(), mask=case.mask.half())
    same = case.changed(offset=halves.offset.float(), mask=halves.mask.float())
    assert torch.equal(run(halves), run(same))


def test_tensors_may_be_views() -> None:
    case = draw()
    wide = torch.cat((case.x, case.x), dim=3)[..., : case.x.shape[3]]
    spread = torch.stack((case.offset, case.offset), dim=-1)[..., 0]
    turned = case.mask.transpose(2, 3).contiguous().transpose(2, 3)
    views = case.changed(x=wide, offset=spread, mask=turned)
    assert not any(t.is_contiguous() for t in (views.x, views.offset, views.mask))
    assert torch.equal(run(views), run(case))


def test_an_empty_batch_gives_an_empty_one() -> None:
    case = draw()
    empty = case.changed(x=case.x[:0], offset=case.offset[:0], mask=case.mask[:0])
    assert run(empty).shape == (0, 6, 5, 6)
