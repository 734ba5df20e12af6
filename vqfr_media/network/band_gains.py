"""A restored face weighed against its input, band of frequencies by band, place by place.

A network that restores heavily damaged faces softens those that are hardly damaged. Where input
and restored picture are two measurements of one face, the best linear estimate of each band is a
weighed sum of both (Wiener 1949). The weights depend on the damage, which nobody knows, but which
the bands' energies and their correlation tell: a small network learns to read them. Along an edge
much can be smoothed and across it nothing, so that the detail of every band can be weighed by its
direction too.
"""

from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqfr_media.network.bands import (
    DILATIONS,
    TO_LUMA_CHROMA,
    TO_RGB,
    measure_directions,
    mix_channels,
    smooth,
    split_bands,
    split_directions,
)

_CELL = 8
"""Side of the squares in which energies are measured, and gains predicted, in pixels."""
_FLOOR = 1e-6
"""Of energies, for images in [-1, 1]: what rounding to 8 bits adds to the finest band, about."""
_SEEN_CHANNELS = (12, 24, 32, 48)
"""Of the convolutions that look at the pictures themselves; all but the first halve the size."""
_BLOCKS = 3


class GainBlock(nn.Module):
    """A residual block without normalisation that also sees the mean of the whole image.

    The damage is mostly the same everywhere, so what the image says as a whole counts.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.whole = nn.Conv2d(channels, channels, 1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, feature: Tensor) -> Tensor:
        """Maps `(N, C, h, w)` to the same shape."""
        mean = feature.mean(dim=(2, 3), keepdim=True)
        inside = _activate(self.conv1(feature) + self.whole(mean))
        result: Tensor = feature + self.conv2(inside)
        return result


class DirectedGains(nn.Module):
    """Weighs luma's details by their direction; what it adds is 0 before training."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(4 * len(DILATIONS), channels, 3, padding=1)
        self.conv_out = nn.Conv2d(channels, 6 * len(DILATIONS), 1)

    def look(self, lumas: list[list[Tensor]]) -> Tensor:
        """Returns what the directions of input and restored picture add to the first feature.

        Args:
            lumas: of both pictures the six steps `(N, 1, S, S)` of `smooth`.

        Returns:
            `(N, C, S / 8, S / 8)`.
        """
        angles = [measure_directions(steps, cell=_CELL) for steps in lumas]
        feature: Tensor = self.conv_in(torch.cat(angles, dim=1))
        return feature

    def forward(self, feature: Tensor, lumas: list[list[Tensor]]) -> Tensor:
        """Maps the last feature, and the same steps, to what luma gets, `(N, 1, S, S)`."""
        back, strength = (
            part.chunk(len(DILATIONS), dim=1)
            for part in _enlarge(self.conv_out(feature)).chunk(2, dim=1)
        )
        # Band by band: at full size every picture that waits for its turn takes memory.
        details = zip(*map(split_directions, lumas), back, strength, strict=True)
        total: Tensor = reduce(
            torch.add,
            (
                (towards * (given - drawn) + more * given).sum(dim=1, keepdim=True)
                for given, drawn, towards, more in details
            ),
        )
        return total


class BandGains(nn.Module):
    """Predicts two gains for every band, of luma and of chroma, and applies them.

    With input x, restored picture y and their bands x_b and y_b, the result is
    Σ y_b + p_b (x_b - y_b) + q_b x_b: p goes back to the input, q strengthens what a blur has left
    of a band (not of the smoothest, whose mean is the picture's brightness). Both are 0 before
    training, so that the result is y. If `directed`, luma gets Σ p_d (x_d - y_d) + q_d x_d as well,
    over the details of five bands in three directions (`split_directions`).

    Args:
        channels: width of the network that predicts.
        directed: whether detail is weighed by its direction too.
    """

    def __init__(self, channels: int, *, directed: bool = False) -> None:
        super().__init__()
        bands = len(DILATIONS) + 1
        self._bands = bands
        inside = (6, *_SEEN_CHANNELS)
        self.seen = nn.ModuleList(
            nn.Conv2d(inside[i], inside[i + 1], 3, stride=1 if i == 0 else 2, padding=1)
            for i in range(len(_SEEN_CHANNELS))
        )
        self.conv_in = nn.Conv2d(
            2 * (3 * bands - 2) + 1 + _SEEN_CHANNELS[-1], channels, 3, padding=1
        )
        self.blocks = nn.ModuleList(GainBlock(channels) for _ in range(_BLOCKS))
        self.conv_out = nn.Conv2d(channels, 2 * (2 * bands - 1), 1)
        self.directed = DirectedGains(channels) if directed else None
        # Training begins with the restored picture, and what weighs by direction may join later.
        for layer in self.layers_of_zeros():
            for parameter in layer.parameters():
                nn.init.zeros_(parameter)

    def layers_of_zeros(self) -> list[nn.Conv2d]:
        """Returns the layers whose parameters are all 0 before training."""
        directed = [] if self.directed is None else [self.directed.conv_in, self.directed.conv_out]
        return [self.conv_out, *directed]

    def forward(self, image: Tensor, restored: Tensor) -> Tensor:
        """Weighs.

        Args:
            image: the input, `(N, 3, S, S)` RGB in [-1, 1], S a multiple of 8.
            restored: what the main branch made of it, the same shape and range.

        Returns:
            `(N, 3, S, S)`, about [-1, 1].
        """
        steps = [smooth(mix_channels(picture, TO_LUMA_CHROMA)) for picture in (image, restored)]
        given, drawn = map(split_bands, steps)
        lumas = [[step[:, :1] for step in picture] for picture in steps]
        feature = self._look(image, restored, given, drawn, lumas)
        directed = None if self.directed is None else self.directed(feature, lumas)
        del steps, lumas  # their memory is needed
        gains = self._gains(feature)
        back, strength = gains[:, : self._bands], gains[:, self._bands :]
        change = (back * (given - drawn)).sum(dim=1) + (strength * given[:, :-1]).sum(dim=1)
        if directed is not None:
            change = torch.cat((change[:, :1] + directed, change[:, 1:]), dim=1)
        return restored + mix_channels(change, TO_RGB)

    def _look(
        self,
        image: Tensor,
        restored: Tensor,
        given: Tensor,
        drawn: Tensor,
        lumas: list[list[Tensor]],
    ) -> Tensor:
        """Returns the feature `(N, C, S / 8, S / 8)` from which all gains are read."""
        seen = torch.cat((image, restored - image), dim=1)
        for conv in self.seen:
            seen = _activate(conv(seen))
        brightness = F.avg_pool2d(given[:, -1, :1], _CELL)
        feature = self.conv_in(torch.cat((_statistics(given, drawn), brightness, seen), dim=1))
        if self.directed is not None:
            feature = feature + self.directed.look(lumas)
        feature = _activate(feature)
        for block in self.blocks:
            feature = block(feature)
        return _activate(feature)

    def _gains(self, feature: Tensor) -> Tensor:
        """Returns gains `(N, 11, 3, S, S)`: 6 towards the input's bands, 5 that strengthen them."""
        gains = self.conv_out(feature)
        luma, chroma = gains[:, : 2 * self._bands - 1], gains[:, 2 * self._bands - 1 :]
        # Laid out for the bands before they are enlarged: it is 64 times as cheap here.
        gains = _enlarge(torch.stack((luma, chroma, chroma), dim=2).flatten(1, 2))
        return gains.reshape(-1, 2 * self._bands - 1, 3, *gains.shape[2:])


def _statistics(given: Tensor, drawn: Tensor) -> Tensor:
    """Measures bands `(N, 6, 3, S, S)` of input and restored picture in cells.

    Returns:
        `(N, 32, S / 8, S / 8)`: logarithms of the energies of the input's bands (of the smoothest,
        of its difference), of the restored picture's other bands, and the correlations of those; of
        luma and of chroma each.
    """
    given, difference = given[:, :-1], given[:, -1:] - drawn[:, -1:]
    drawn = drawn[:, :-1]
    first, second, shared = map(_cells, (given.square(), drawn.square(), given * drawn))
    correlation = shared / ((first + _FLOOR) * (second + _FLOOR)).sqrt()
    energies = torch.cat((first, _cells(difference.square()), second), dim=1)
    # About zero, and about as large as the correlation.
    return torch.cat(((energies + _FLOOR).log() * 0.3 + 2, correlation), dim=1)


def _cells(products: Tensor) -> Tensor:
    """Maps products of B bands `(N, B, 3, S, S)` to cells' means `(N, 2 B, S / 8, S / 8)`."""
    means = F.avg_pool2d(products.flatten(1, 2), _CELL)
    luma, chroma = means[:, 0::3], means[:, 1::3] + means[:, 2::3]
    return torch.cat((luma, chroma), dim=1)


def _enlarge(gains: Tensor) -> Tensor:
    """Maps `(N, C, S / 8, S / 8)` to `(N, C, S, S)`."""
    size = float(_CELL)
    return F.interpolate(gains, scale_factor=size, mode="bilinear", align_corners=False)


def _activate(feature: Tensor) -> Tensor:
    return F.leaky_relu(feature, 0.1)
