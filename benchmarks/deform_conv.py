"""Our deformable convolution against torchvision's at every level of v1, on an NVIDIA GPU.

    python -m benchmarks.deform_conv [BATCH ...]

For each level, data type and batch size (1 and 8 unless given): milliseconds of torchvision's
operator in the same type, of ours as the torch operator runs it and by each of its tiles, the share
of the GPU's arithmetic limit, and the error of both against float64 torchvision. The offsets are of
two pixels, as smooth as a trained network's. Exits with 3 where there is no GPU.
"""

import sys
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import deform_conv2d as torchvision_deform_conv2d
from vqfr_deform_conv.operator import by_kernel, deform_conv2d
from vqfr_deform_conv.tiling import Convolution, Tile, tile, tiles
from vqfr_engines.bench import run_seconds

from benchmarks import record
from vqfr_media.network.vqfr_v1 import vqfr_v1_config

# Dense TFLOP/s without sparsity, from the vendor's data sheets; float32 without tensor cores.
LIMITS = {
    "H200": {torch.float16: 989e12, torch.float32: 67e12},
    "H100": {torch.float16: 989e12, torch.float32: 67e12},
    "A100": {torch.float16: 312e12, torch.float32: 19.5e12},
    "RTX 4090": {torch.float16: 330e12, torch.float32: 82.6e12},
}
REPEATS, WARM_UP = 30, 5


def milliseconds(work: Callable[[], Tensor], device: torch.device) -> float:
    """Returns the median over `REPEATS` runs, on a GPU by events, the input out of the caches."""
    if device.type != "cuda":  # for rehearsals only
        return 1000 * run_seconds(work, device)
    flush = torch.empty(256 << 20, dtype=torch.uint8, device=device)
    times: list[float] = []
    for number in range(WARM_UP + REPEATS):
        flush.zero_()
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        start.record()
        work()
        end.record()
        end.synchronize()
        if number >= WARM_UP:
            times.append(start.elapsed_time(end))
    return sorted(times)[REPEATS // 2]


def inputs(
    channels: int, size: int, *, batch: int, groups: int, dtype: torch.dtype, device: torch.device
) -> list[Tensor]:
    """Draws x (channels last), offset, mask, weight and bias of a level."""
    generator = torch.Generator(device).manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, device=device)

    coarse = normal(batch, 18 * groups, max(size // 16, 1), max(size // 16, 1))
    offset = 2 * F.interpolate(coarse, size=(size, size), mode="bilinear", align_corners=False)
    mask = torch.sigmoid(normal(batch, 9 * groups, size, size))
    x = normal(batch, channels, size, size).to(dtype).to(memory_format=torch.channels_last)
    weight = (normal(channels, channels, 3, 3) / (9 * channels) ** 0.5).to(dtype)
    return [x, offset, mask, weight, normal(channels).to(dtype)]


def theirs(x: Tensor, offset: Tensor, mask: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Runs torchvision's operator, which wants every tensor in one type."""
    result: Tensor = torchvision_deform_conv2d(
        x, offset.to(x.dtype), weight, bias, padding=1, mask=mask.to(x.dtype)
    )
    return result


def error(actual: Tensor, exact: Tensor) -> float:
    """Returns root mean square of the difference, relative to that of the exact values."""
    difference = actual[:1].double() - exact
    return float(difference.square().mean().sqrt() / exact.square().mean().sqrt())


def limit(dtype: torch.dtype, device: torch.device) -> float | None:
    """Returns FLOP/s that a GPU can do, or None where its data sheet is not in the table."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((found[dtype] for part, found in LIMITS.items() if part in name), None)


def named(cut: Tile) -> str:
    """Names a tile, for example 64x128x32 4w 3s."""
    return f"{cut.pixels}x{cut.outputs}x{cut.channels} {cut.warps}w {cut.stages}s"


def measure(
    channels: int, size: int, *, batch: int, groups: int, dtype: torch.dtype, device: torch.device
) -> dict[str, Any]:
    """Measures one level; only a GPU runs our kernel, so only there are tiles compared."""
    x, offset, mask, weight, bias = inputs(
        channels, size, batch=batch, groups=groups, dtype=dtype, device=device
    )
    convolution = Convolution.of(
        x=x.shape,
        offset=offset.shape,
        mask=mask.shape,
        weight=weight.shape,
        bias=bias.shape,
        stride=1,
        padding=1,
        dilation=1,
        offset_groups=groups,
    )

    def ours() -> Tensor:
        return deform_conv2d(x, offset, mask, weight, bias, 1, 1, 1, groups)

    def by(cut: Tile) -> Callable[[], Tensor]:
        return lambda: by_kernel(x, offset, mask, weight, bias, convolution, cut=cut)

    # What a user of torchvision would have: plain data, everything in one type.
    plain, offset_too, mask_too = x.contiguous(), offset.to(dtype), mask.to(dtype)

    def as_usual() -> Tensor:
        return theirs(plain, offset_too, mask_too, weight, bias)

    exact = theirs(
        x[:1].double(), offset[:1].double(), mask[:1].double(), weight.double(), bias.double()
    )
    flops = 2 * 9 * channels * channels * size * size * batch
    spent, most = milliseconds(ours, device), limit(dtype, device)
    cuts = dict.fromkeys(tiles(convolution, element_bytes=dtype.itemsize))
    if device.type != "cuda":
        cuts.clear()
    return {
        "level": size,
        "channels": channels,
        "batch": batch,
        "type": str(dtype).removeprefix("torch."),
        "torchvision_ms": milliseconds(as_usual, device),
        "ours_ms": spent,
        "ours_tile": named(tile(convolution, images=batch, element_bytes=dtype.itemsize)),
        "ours_ms_by_tile": {named(cut): milliseconds(by(cut), device) for cut in cuts},
        "share_of_the_limit": most and flops / (spent / 1000) / most,
        "torchvision_error": error(as_usual(), exact),
        "ours_error": error(ours(), exact),
    }


def main() -> int:
    """Prints a table and writes results/deform_conv.json."""
    if not torch.cuda.is_available():
        print("benchmarks.deform_conv needs an NVIDIA GPU; there is none here", file=sys.stderr)
        return 3
    torch.backends.cuda.matmul.allow_tf32 = False
    config, figures = vqfr_v1_config(), []
    batches = [int(text) for text in sys.argv[1:]] or [1, 8]
    for dtype in (torch.float16, torch.float32):
        for batch in batches:
            for level, channels in enumerate(config.channels):
                size = config.image_size >> level
                with torch.inference_mode():
                    found = measure(
                        channels,
                        size,
                        batch=batch,
                        groups=config.offset_groups,
                        dtype=dtype,
                        device=torch.device("cuda", 0),
                    )
                figures.append(found)
                best = min(found["ours_ms_by_tile"].items(), key=lambda pair: pair[1])
                share = found["share_of_the_limit"]
                print(
                    f"{found['type']:8} x{batch:<3}{size:4}^2 x{channels:4} "
                    f"torchvision {found['torchvision_ms']:8.3f} ms, error "
                    f"{found['torchvision_error']:.1e}; ours {found['ours_ms']:8.3f} ms, error "
                    f"{found['ours_error']:.1e}, {'?' if share is None else f'{share:.0%}'} of the "
                    f"limit; best {best[1]:.3f} ms by {best[0]}",
                    flush=True,
                )
    versions = {name: version(name) for name in ("torchvision", "triton")}
    print(record.write("deform_conv", {"versions": versions, "levels": figures}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
