"""What a deformable convolution is, and how the kernel cuts it up: pure functions of shapes."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

INT32 = 2**31
MULTIPROCESSORS = 128
"""Of a large GPU (RTX 4090: 128, H100 and H200: 132): fewer programs than this leave some idle."""
MAX_SHARED_BYTES = 48 * 1024
"""What a kernel gets without asking the driver; TensorRT's plugins cannot ask."""


@dataclass(frozen=True)
class Convolution:
    """Shapes and hyper-parameters of one deformable convolution, the batch left open.

    Raises:
        ValueError: a size or a hyper-parameter is out of range, or they contradict each other.
    """

    channels: int
    height: int
    width: int
    out_channels: int
    out_height: int
    out_width: int
    offset_groups: int
    kernel_height: int
    kernel_width: int
    stride: int
    padding: int
    dilation: int

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value < (0 if name == "padding" else 1):
                raise ValueError(f"deform_conv2d: {name} = {value} is out of range")
        if self.channels % self.offset_groups:
            raise ValueError(
                f"deform_conv2d: {self.channels} channels do not fall into "
                f"{self.offset_groups} offset groups"
            )
        for size, kernel, out in (
            (self.height, self.kernel_height, self.out_height),
            (self.width, self.kernel_width, self.out_width),
        ):
            reach = self.dilation * (kernel - 1) + 1
            expected = (size + 2 * self.padding - reach) // self.stride + 1
            if out != expected:
                raise ValueError(
                    f"deform_conv2d: {size} pixels, kernel {kernel}, stride {self.stride}, padding "
                    f"{self.padding}, dilation {self.dilation} give {expected}, not the {out} of "
                    "the offsets"
                )
        moves = 2 * self.offset_groups * self.kernel_height * self.kernel_width
        area = self.out_height * self.out_width
        weights = self.out_channels * self.channels * self.kernel_height * self.kernel_width
        inputs, outputs = self.channels * self.height * self.width, self.out_channels * area
        most = max(inputs, outputs, moves * area, weights)
        if most >= INT32:
            raise ValueError(f"deform_conv2d: {most} values for one image, 2^31 is too many")

    @classmethod
    def of(
        cls,
        *,
        x: Sequence[int],
        offset: Sequence[int],
        mask: Sequence[int],
        weight: Sequence[int],
        bias: Sequence[int],
        stride: int,
        padding: int,
        dilation: int,
        offset_groups: int,
    ) -> "Convolution":
        """Returns the convolution of tensors of these shapes, laid out as torchvision's.

        Args:
            x: `(N, C, H, W)`.
            offset: `(N, 2 * KH * KW * offset_groups, h, w)`.
            mask: `(N, KH * KW * offset_groups, h, w)`.
            weight: `(CO, C, KH, KW)`.
            bias: `(CO,)`.
            stride, padding, dilation: of both directions.
            offset_groups: groups of channels that are sampled together.

        Raises:
            ValueError: the shapes contradict each other.
        """
        if not len(x) == len(offset) == len(mask) == len(weight) == 4:
            raise ValueError("deform_conv2d: x, offset, mask and weight have four dimensions each")
        (images, channels, height, width), (out_channels, _, kernel_height, kernel_width) = (
            x,
            weight,
        )
        taps, (out_height, out_width) = kernel_height * kernel_width, offset[2:]
        for name, shape, expected in (
            ("offset", offset, (images, 2 * taps * offset_groups, out_height, out_width)),
            ("mask", mask, (images, taps * offset_groups, out_height, out_width)),
            ("weight", weight, (out_channels, channels, kernel_height, kernel_width)),
            ("bias", bias, (out_channels,)),
        ):
            if tuple(shape) != expected:
                raise ValueError(f"deform_conv2d: {name} is {tuple(shape)}, expected {expected}")
        return cls(
            channels=channels,
            height=height,
            width=width,
            out_channels=out_channels,
            out_height=out_height,
            out_width=out_width,
            offset_groups=offset_groups,
            kernel_height=kernel_height,
            kernel_width=kernel_width,
            stride=stride,
            padding=padding,
            dilation=dilation,
        )


@dataclass(frozen=True)
class Tile:
    """What one program of the kernel computes, and with how many threads."""

    pixels: int
    outputs: int
    channels: int
    """Sampled in one step; of one offset group."""
    warps: int
    stages: int
    """Of the software pipeline: with 3, offsets are read two steps and samples one step ahead."""

    def output_tiles(self, convolution: Convolution) -> int:
        """Counts the programs that share one set of pixels."""
        return -(-convolution.out_channels // self.outputs)

    def programs(self, convolution: Convolution, *, images: int) -> int:
        """Counts the programs that `images` images take."""
        pixels = images * convolution.out_height * convolution.out_width
        return -(-pixels // self.pixels) * self.output_tiles(convolution)


_TILES_16_BIT = (
    Tile(pixels=64, outputs=256, channels=32, warps=8, stages=3),
    Tile(pixels=64, outputs=256, channels=32, warps=8, stages=1),
    Tile(pixels=128, outputs=128, channels=32, warps=8, stages=1),
    Tile(pixels=32, outputs=128, channels=64, warps=4, stages=3),
    Tile(pixels=16, outputs=64, channels=64, warps=4, stages=3),
)
_TILES_32_BIT = (
    Tile(pixels=64, outputs=128, channels=16, warps=8, stages=3),
    Tile(pixels=64, outputs=128, channels=16, warps=8, stages=1),
    Tile(pixels=64, outputs=64, channels=16, warps=8, stages=3),
    Tile(pixels=32, outputs=64, channels=16, warps=4, stages=3),
    Tile(pixels=32, outputs=32, channels=16, warps=4, stages=1),
)
TACTICS = 5
"""How many tiles `tiles` gives for every convolution."""


def tiles(convolution: Convolution, *, element_bytes: int) -> tuple[Tile, ...]:
    """Lists the `TACTICS` tiles worth trying, largest first; all fit into `MAX_SHARED_BYTES`.

    Samples are taken again for every tile of outputs, so large tiles are as wide as the outputs;
    small ones are for images with too few pixels to occupy a GPU. A pipeline hides the time that
    samples take, but its copies pass the first cache by, in which neighbouring samples would be
    found: which is faster only a GPU can tell. float32 runs without tensor cores, which would
    round it to TF32.
    """
    outputs = _fitting(convolution.out_channels)
    channels = _fitting(convolution.channels // convolution.offset_groups)
    return tuple(
        replace(
            most,
            outputs=min(outputs, most.outputs),
            channels=min(channels, most.channels),
            # Half the sums need half the threads to hold them.
            warps=4 if outputs < most.outputs else most.warps,
        )
        for most in (_TILES_32_BIT if element_bytes == 4 else _TILES_16_BIT)
    )


def tile_of_tactic(convolution: Convolution, tactic: int, *, element_bytes: int) -> Tile:
    """Finds the tile that TensorRT's number of a tactic stands for.

    Args:
        convolution: to be cut up.
        tactic: 1 to `TACTICS` for the `tiles` in their order; 0 is TensorRT's own, for a plugin of
            which it has timed nothing, and stands for the smallest, which suits every shape.
        element_bytes: of the data's type.

    Raises:
        ValueError: there is no such tactic.
    """
    candidates = tiles(convolution, element_bytes=element_bytes)
    if not 0 <= tactic <= len(candidates):
        raise ValueError(f"deform_conv2d: tactic {tactic} is not within 0..{len(candidates)}")
    return candidates[tactic - 1] if tactic else candidates[-1]


def tile(convolution: Convolution, *, images: int, element_bytes: int) -> Tile:
    """Picks the largest of the `tiles` that fills every multiprocessor, else the smallest."""
    candidates = tiles(convolution, element_bytes=element_bytes)
    for candidate in candidates:
        if candidate.programs(convolution, images=images) >= MULTIPROCESSORS:
            return candidate
    return candidates[-1]


def _fitting(count: int) -> int:
    """Returns the power of two that holds `count`, at least the 16 of a matrix instruction."""
    return max(16, 1 << (count - 1).bit_length())
