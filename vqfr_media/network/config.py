"""What a network is built from: frozen, checked, and convertible to plain JSON.

A checkpoint carries its own config, so a wrong value is refused here, in one place, as a
`ValueError`.
"""

from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from itertools import pairwise, product
from typing import Any, Literal, Self


class _JsonConfig:
    """Conversion to and from a plain dict of JSON values."""

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields as JSON values (tuples become lists)."""
        values = asdict(self)  # type: ignore[call-overload]
        return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Reads what `to_dict` wrote.

        Raises:
            ValueError: a field is missing that has no default, unknown or out of range.
        """
        described = fields(cls)  # type: ignore[arg-type]
        names = {field.name for field in described}
        wanted = {field.name for field in described if field.default is MISSING}
        if not wanted <= set(values) <= names:
            raise ValueError(
                f"{cls.__name__}: missing fields {sorted(wanted - set(values))}, "
                f"unknown fields {sorted(set(values) - names)}"
            )
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})


def _check_integer(name: str, value: object, *, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name} must be an integer of at least {least}, not {value!r}")


def _check_integers(name: str, values: object, *, length: int, least: int) -> None:
    if not isinstance(values, tuple) or len(values) != length:
        raise ValueError(f"{name} must be a tuple of {length} integers, not {values!r}")
    for value in values:
        _check_integer(f"{name}: each value", value, least=least)


def _check_flag(name: str, value: object) -> None:
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be true or false, not {value!r}")


def _check_size(image_size: int, *, levels: int) -> None:
    factor = 2 ** (levels - 1)
    if image_size % factor:
        raise ValueError(
            f"image_size must be a multiple of {factor} ({levels} levels), not {image_size}"
        )


def _check_groups(name: str, channels: tuple[int, ...], **groups: int) -> None:
    for (kind, number), count in product(groups.items(), channels):
        if count % number:
            raise ValueError(f"{name}: {count} is no multiple of {kind} = {number}")


def _check_common(config: "VqfrV1Config | VqfrV2Config") -> None:
    for name in ("image_size", "codebook_size", "code_channels", "norm_groups"):
        _check_integer(name, getattr(config, name), least=1)
    for name in ("offset_groups", "input_channels"):
        _check_integer(name, getattr(config, name), least=1)
    if not isinstance(config.channels, tuple) or not 2 <= len(config.channels) <= 8:
        raise ValueError(f"channels must be a tuple of 2 to 8 integers, not {config.channels!r}")
    _check_integers("channels", config.channels, length=len(config.channels), least=1)
    _check_size(config.image_size, levels=len(config.channels))
    _check_groups("channels", config.channels, norm_groups=config.norm_groups)


@dataclass(frozen=True)
class VqfrV1Config(_JsonConfig):
    """The paper's network (table 3). Tuples run from full size (f = 1) to the code grid."""

    image_size: int
    """Side of the square input, pixels; other multiples of `downsampling` work too."""
    channels: tuple[int, ...]
    """Feature channels per level."""
    encoder_blocks: tuple[int, ...]
    """Residual blocks of the encoder per level."""
    texture_blocks: tuple[int, ...]
    """Residual blocks of the texture decoder per level."""
    codebook_size: int
    """Vectors in the codebook, which is `(codebook_size, code_channels)`."""
    code_channels: int
    """Length of each of them."""
    norm_groups: int
    """Groups of every group normalisation."""
    offset_channels: tuple[int, ...]
    """Width of the offset path per level; 0: plain fusion there, no warping."""
    offset_groups: int
    """Groups of the deformable convolutions."""
    input_channels: int
    """Width of the input feature that the warping sees (unused with `input_pyramid`)."""
    input_pyramid: bool
    """Whether the main decoder gets features of the input made for it at every level, half as
    wide as the level, for the warping and the fusion; otherwise one resized feature, for the
    warping alone, as published."""
    predict_residual: bool
    """Whether the main output is input + prediction, the prediction 0 before training."""
    gain_channels: int = 0
    """Width of the network behind the main branch that weighs its bands of frequencies against the
    input's (`band_gains.py`; not in the paper); 0: there is none, as in files of older versions.
    With it, sizes are multiples of 8 too."""
    directed_gains: bool = False
    """Whether that network weighs detail by its direction too; only with `gain_channels`."""
    fine_gains: bool = False
    """Whether it corrects luma's gains in squares of 4 px; only with `directed_gains`."""

    def __post_init__(self) -> None:
        _check_common(self)
        levels = len(self.channels)
        for name in ("encoder_blocks", "texture_blocks", "offset_channels"):
            _check_integers(name, getattr(self, name), length=levels, least=0)
        _check_groups("offset_channels", self.offset_channels, norm_groups=self.norm_groups)
        warped = tuple(c for c, o in zip(self.channels, self.offset_channels, strict=True) if o)
        _check_groups("channels of a warped level", warped, offset_groups=self.offset_groups)
        if any(fine and not coarse for fine, coarse in pairwise(self.offset_channels)):
            raise ValueError(
                "offset_channels: a warped level needs all the coarser ones warped, "
                f"not {self.offset_channels}"
            )
        _check_integer("gain_channels", self.gain_channels, least=0)
        if self.gain_channels and self.image_size % 8:
            raise ValueError(
                f"image_size must be a multiple of 8 with gain_channels, not {self.image_size}"
            )
        _check_flag("directed_gains", self.directed_gains)
        if self.directed_gains and not self.gain_channels:
            raise ValueError("directed_gains needs gain_channels above 0")
        _check_flag("fine_gains", self.fine_gains)
        if self.fine_gains and not self.directed_gains:
            raise ValueError("fine_gains needs directed_gains")
        _check_flag("input_pyramid", self.input_pyramid)
        _check_flag("predict_residual", self.predict_residual)
        if self.input_pyramid:
            halves = tuple(count // 2 for count in self.channels)
            _check_groups(
                "half of the channels (input_pyramid)", halves, norm_groups=self.norm_groups
            )

    @property
    def downsampling(self) -> int:
        """The compression patch size f: pixels along one side of a code."""
        return int(2 ** (len(self.channels) - 1))

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """`(C, h, w)` of one latent at `image_size`."""
        side = self.image_size // self.downsampling
        return (self.code_channels, side, side)


@dataclass(frozen=True)
class VqfrV2Config(_JsonConfig):
    """The authors' second network. Tuples run from full size (f = 1) to the code grid."""

    image_size: int
    """Side of the square input, pixels; other multiples of `downsampling` work too."""
    channels: tuple[int, ...]
    """Feature channels per level."""
    encoder_blocks: tuple[int, ...]
    """Residual blocks of the encoder per level; at the coarsest each is followed by attention."""
    texture_blocks: tuple[int, ...]
    """Residual blocks of the texture decoder per level, likewise."""
    codebook_size: int
    """Vectors in the codebook, which is `(codebook_size, code_channels)`."""
    code_channels: int
    """Length of each of them."""
    norm_groups: int
    """Groups of every group normalisation."""
    offset_groups: int
    """Groups of the deformable convolutions."""
    input_channels: int
    """Width of the input feature that the warping sees."""
    look_up: Literal["predict", "nearest"]
    """"predict" (a classifier names the code) or "nearest" (as v1)."""

    def __post_init__(self) -> None:
        _check_common(self)
        for name in ("encoder_blocks", "texture_blocks"):
            _check_integers(name, getattr(self, name), length=len(self.channels), least=0)
        _check_groups("channels", self.channels, offset_groups=self.offset_groups)
        if self.look_up not in ("predict", "nearest"):
            raise ValueError(f'look_up must be "predict" or "nearest", not {self.look_up!r}')

    @property
    def downsampling(self) -> int:
        """The compression patch size f: pixels along one side of a code."""
        return int(2 ** (len(self.channels) - 1))

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """`(C, h, w)` of one latent at `image_size`."""
        side = self.image_size // self.downsampling
        return (self.code_channels, side, side)


def vqfr_v1_config() -> VqfrV1Config:
    """Describes the published v1: 512 px, f = 32, 76.6 M parameters."""
    channels = (128, 128, 256, 256, 256, 512)
    return VqfrV1Config(
        image_size=512,
        channels=channels,
        encoder_blocks=(2,) * 6,
        texture_blocks=(3,) * 6,
        codebook_size=1024,
        code_channels=256,
        norm_groups=32,
        offset_channels=channels,
        offset_groups=4,
        input_channels=32,
        input_pyramid=False,
        predict_residual=False,
    )


def vqfr_v2_config() -> VqfrV2Config:
    """Describes the published v2: 512 px, f = 32, 83.5 M parameters."""
    return VqfrV2Config(
        image_size=512,
        channels=(64, 128, 128, 256, 256, 512),
        encoder_blocks=(2,) * 6,
        texture_blocks=(2,) * 6,
        codebook_size=1024,
        code_channels=256,
        norm_groups=32,
        offset_groups=4,
        input_channels=32,
        look_up="predict",
    )


def lite_config() -> VqfrV1Config:
    """Describes our light edition for CPUs: 256 px, f = 16."""
    return VqfrV1Config(
        image_size=256,
        channels=(16, 32, 64, 128, 192),
        encoder_blocks=(0, 1, 1, 1, 2),
        texture_blocks=(1, 1, 1, 1, 2),
        codebook_size=2048,
        code_channels=128,
        norm_groups=4,
        offset_channels=(0, 16, 32, 32, 32),
        offset_groups=2,
        input_channels=32,
        input_pyramid=True,
        predict_residual=True,
        gain_channels=64,
        directed_gains=True,
        fine_gains=True,
    )
