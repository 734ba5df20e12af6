"""The deformable convolution's kernel at every level and tile of v1 and v2, against torchvision."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import deform_conv2d as torchvision_deform_conv2d
from vqfr_deform_conv.tiling import Convolution, Tile, tiles

from vqfr_engines.engine_checks import CheckFailedError, Findings
from vqfr_engines.random_networks import published_config
from vqfr_media.backends.exact_float32 import exact_float32
from vqfr_media.backends.nvidia_gpu import check_capability
from vqfr_media.backends.torch_engine import resolve_device
from vqfr_media.errors import BackendError

type KernelRun = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, Convolution, Tile], Tensor]
"""Computes a convolution of x, offset, mask, weight and bias, cut up by a tile."""

# Relative RMS. Rounding samples and results once to the type gives about half of this; coordinates
# in float16 would give 1.7e-2 at 64 px and more on larger images.
MOST = {torch.float16: 1e-3, torch.bfloat16: 8e-3, torch.float32: 1e-5}
# As smooth as a trained network's, and some of them lead outside the image.
_OFFSET_PIXELS, _OFFSET_CELL = 2.0, 16


@dataclass(frozen=True, kw_only=True)
class KernelInputs:
    """One image's tensors, exact in their type."""

    x: Tensor
    """(1, C, H, W) in the type."""
    offset: Tensor
    """(1, 18 * groups, H, W) pixels, float32."""
    mask: Tensor
    """(1, 9 * groups, H, W), float32."""
    weight: Tensor
    """(CO, C, 3, 3) in the type."""
    bias: Tensor
    """(CO,) in the type."""


def levels(*models: str) -> list[Convolution]:
    """Lists the shapes of these networks' deformable convolutions, each once, the finest first."""
    found = []
    for config in map(published_config, models):
        for level, channels in enumerate(config.channels):
            side = config.image_size >> level
            found.append(
                Convolution(
                    channels=channels,
                    height=side,
                    width=side,
                    out_channels=channels,
                    out_height=side,
                    out_width=side,
                    offset_groups=config.offset_groups,
                    kernel_height=3,
                    kernel_width=3,
                    stride=1,
                    padding=1,
                    dilation=1,
                )
            )
    return sorted(dict.fromkeys(found), key=lambda c: (-c.height, c.channels))


def kernel_inputs(
    convolution: Convolution, *, dtype: torch.dtype, channels_last: bool, device: torch.device
) -> KernelInputs:
    """Draws the same tensors at every call."""
    c, generator = convolution, torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    size, taps = (c.height, c.width), 9 * c.offset_groups
    coarse = normal(1, 2 * taps, *(max(side // _OFFSET_CELL, 2) for side in size))
    offset = F.interpolate(coarse, size=size, mode="bilinear", align_corners=False)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    x = normal(1, c.channels, *size).to(device, dtype)
    return KernelInputs(
        x=x.contiguous(memory_format=layout),
        offset=(_OFFSET_PIXELS * offset).to(device),
        mask=torch.sigmoid(normal(1, taps, *size)).to(device),
        weight=(normal(c.out_channels, c.channels, 3, 3) / (9 * c.channels) ** 0.5).to(
            device, dtype
        ),
        bias=normal(c.out_channels).to(device, dtype),
    )


def check_kernels(
    convolutions: Sequence[Convolution],
    *,
    device: torch.device,
    run: KernelRun,
    types: Sequence[torch.dtype] = (torch.float16, torch.float32),
) -> Findings:
    """Compares every tile of every convolution, in both layouts, with torchvision in float32.

    Raises:
        CheckFailedError: naming the shapes and tiles that are further off than rounding is.
    """
    figures: dict[str, float] = {}
    wrong: list[str] = []
    for convolution in convolutions:
        for dtype in types:
            for channels_last in (True, False):
                given = kernel_inputs(
                    convolution, dtype=dtype, channels_last=channels_last, device=device
                )
                with torch.inference_mode(), exact_float32(device):
                    expected = by_torchvision(given)
                    for tile in dict.fromkeys(tiles(convolution, element_bytes=dtype.itemsize)):
                        name = case_name(convolution, dtype, tile, channels_last=channels_last)
                        got = run(
                            given.x, given.offset, given.mask, given.weight, given.bias,
                            convolution, tile,
                        )  # fmt: skip
                        error = relative_rms(got, expected)
                        figures[name] = error
                        if not error <= MOST[dtype]:
                            wrong.append(f"{name} {error:.1e}, {MOST[dtype]:.0e} may be")
    if wrong:
        raise CheckFailedError(
            f"{len(wrong)} of {len(figures)} kernels are off: {'; '.join(wrong[:4])}"
        )
    worst = max(figures, key=lambda name: figures[name])
    return Findings(
        detail=f"{len(figures)} kernels, the worst {figures[worst]:.1e} RMS ({worst})",
        figures=figures,
    )


def check_published_kernels(device: str) -> Findings:
    """Does `check_kernels` with our Triton kernel for all shapes of v1 and v2.

    Raises:
        BackendError: there is no NVIDIA GPU that it runs on.
        CheckFailedError: as `check_kernels`.
    """
    place = resolve_device(device)
    if place.type != "cuda":
        raise BackendError("our kernel runs on NVIDIA GPUs only")
    check_capability(place, engine="inductor", instead="torch")
    from vqfr_deform_conv.operator import by_kernel

    def run(
        x: Tensor,
        offset: Tensor,
        mask: Tensor,
        weight: Tensor,
        bias: Tensor,
        convolution: Convolution,
        tile: Tile,
    ) -> Tensor:
        return by_kernel(x, offset, mask, weight, bias, convolution, cut=tile)

    return check_kernels(levels("v1", "v2"), device=place, run=run)


def by_torchvision(given: KernelInputs) -> Tensor:
    """Returns torchvision's result in float32."""
    result: Tensor = torchvision_deform_conv2d(
        given.x.float().contiguous(),
        given.offset,
        given.weight.float(),
        given.bias.float(),
        padding=1,
        mask=given.mask,
    )
    return result


def case_name(
    convolution: Convolution, dtype: torch.dtype, tile: Tile, *, channels_last: bool
) -> str:
    """Names a case, for example `512 px x 128 float16 NHWC 64x128x32 8w 3s`."""
    cut = f"{tile.pixels}x{tile.outputs}x{tile.channels} {tile.warps}w {tile.stages}s"
    kind = str(dtype).removeprefix("torch.")
    layout = "NHWC" if channels_last else "NCHW"
    return f"{convolution.height} px x {convolution.channels} {kind} {layout} {cut}"


def relative_rms(got: Tensor, expected: Tensor) -> float:
    """Returns the root mean square of the difference over that of `expected`, or NaN."""
    difference = got.float() - expected
    return float(difference.square().mean().sqrt() / expected.square().mean().sqrt())
