"""A restored face weighed against its input, band of frequencies by band, place by place.

A network that restores heavily damaged faces softens those that are hardly damaged. Where input
and restored picture are two measurements of one face, the best linear estimate of each band is a
weighed sum of both (Wiener 1949). The weights depend on the damage, which nobody knows, but which
the bands' energies and their correlation tell: a small network learns to read them.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqfr_media.network.bands import DILATIONS, TO_LUMA_CHROMA, TO_RGB, mix_channels, split_bands

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


class BandGains(nn.Module):
    """Predicts two gains for every band, of luma and of chroma, and applies them.

    With input x, restored picture y and their bands x_b and y_b, the result is
    Σ y_b + p_b (x_b - y_b) + q_b x_b: p goes back to the input, q strengthens what a blur has left
    of a band (not of the smoothest, whose mean is the picture's brightness). Both are 0 before
    training, so that the result is y.
    """

    def __init__(self, channels: int) -> None:
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
        for parameter in self.conv_out.parameters():  # training begins with the restored picture
            nn.init.zeros_(parameter)

    def forward(self, image: Tensor, restored: Tensor) -> Tensor:
        """Weighs.

        Args:
            image: the input, `(N, 3, S, S)` RGB in [-1, 1], S a multiple of 8.
            restored: what the main branch made of it, the same shape and range.

        Returns:
            `(N, 3, S, S)`, about [-1, 1].
        """
        given = split_bands(mix_channels(image, TO_LUMA_CHROMA))
        drawn = split_bands(mix_channels(restored, TO_LUMA_CHROMA))
        gains = self._predict(image, restored, given, drawn)
        back, strength = gains[:, : self._bands], gains[:, self._bands :]
        change = (back * (given - drawn)).sum(dim=1) + (strength * given[:, :-1]).sum(dim=1)
        return restored + mix_channels(change, TO_RGB)

    def _predict(self, image: Tensor, restored: Tensor, given: Tensor, drawn: Tensor) -> Tensor:
        """Returns gains `(N, 11, 3, S, S)`: 6 towards the input's bands, 5 that strengthen them."""
        seen = torch.cat((image, restored - image), dim=1)
        for conv in self.seen:
            seen = _activate(conv(seen))
        brightness = F.avg_pool2d(given[:, -1, :1], _CELL)
        feature = torch.cat((_statistics(given, drawn), brightness, seen), dim=1)
        feature = _activate(self.conv_in(feature))
        for block in self.blocks:
            feature = block(feature)
        gains = self.conv_out(_activate(feature))
        luma, chroma = gains[:, : 2 * self._bands - 1], gains[:, 2 * self._bands - 1 :]
        # Laid out for the bands before they are enlarged: it is 64 times as cheap here.
        gains = torch.stack((luma, chroma, chroma), dim=2).flatten(1, 2)
        size = float(_CELL)
        gains = F.interpolate(gains, scale_factor=size, mode="bilinear", align_corners=False)
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


def _activate(feature: Tensor) -> Tensor:
    return F.leaky_relu(feature, 0.1)
