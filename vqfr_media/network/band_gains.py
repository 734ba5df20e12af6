"""A restored face weighed against its input, band of frequencies by band, place by place.

A network that restores heavily damaged faces softens those that are hardly damaged. Where input
and restored picture are two measurements of one face, the best linear estimate of each band is a
weighed sum of both (Wiener 1949). The weights depend on the damage, which nobody knows, but which
the bands' energies and their correlation tell: a small network learns to read them. Along an edge
much can be smoothed and across it nothing, so that the detail of every band can be weighed by its
direction too.

Input and restored picture lie behind each other in one stack of channels, first the input's: every
filter is run once for both. At full size a stack is taken apart once only, where sums would lose
digits: to take it apart costs as much as a filter.
"""

from collections.abc import Iterable
from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqfr_media.network.bands import (
    DILATIONS,
    TO_CHROMA,
    TO_LUMA,
    TO_RGB,
    Matrix,
    measure_directions,
    mix_channels,
    smooth,
    split_bands,
    split_directions,
)
from vqfr_media.network.blocks import full_precision

_CELL = 8
"""Side of the squares in which energies are measured, and gains predicted, in pixels."""
_FLOOR = 1e-6
"""Of energies, for images in [-1, 1]: what rounding to 8 bits adds to the finest band, about."""
_SEEN_CHANNELS = (12, 24, 32, 48)
"""Of the convolutions that look at the pictures themselves; all but the first halve the size."""
_BLOCKS = 3
_FINE_CELL = _CELL // 2
"""Side of the squares in which luma's gains are corrected."""
_FINE_CHANNELS = 32
"""Of the convolutions that correct."""


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
    """Predicts gains of luma's details by their direction, which are 0 before training."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(4 * len(DILATIONS), channels, 3, padding=1)
        self.conv_out = nn.Conv2d(channels, 6 * len(DILATIONS), 1)

    def look(self, lumas: list[Tensor]) -> Tensor:
        """Returns what the directions of input and restored picture add to the first feature.

        Args:
            lumas: the six steps `(N, 2, S, S)` of `smooth`.

        Returns:
            `(N, C, S / 8, S / 8)`.
        """
        feature: Tensor = self.conv_in(measure_directions(lumas, cell=_CELL).flatten(1, 2))
        return feature

    def forward(self, feature: Tensor) -> Tensor:
        """Maps the last feature to gains of details, `(N, 30, S / 8, S / 8)`."""
        gains: Tensor = self.conv_out(feature)
        return gains


class FineGains(nn.Module):
    """Corrects all gains of luma in squares of 4 px; what it adds is 0 before training.

    Along an outline the face's cells of 8 px are the background's too.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        bands = len(DILATIONS)
        self.conv_in = nn.Conv2d(_SEEN_CHANNELS[-2] + 3 * bands, _FINE_CHANNELS, 3, padding=1)
        self.coarse = nn.Conv2d(channels, _FINE_CHANNELS, 1)
        self.conv_mid = nn.Conv2d(_FINE_CHANNELS, _FINE_CHANNELS, 3, padding=1)
        self.conv_out = nn.Conv2d(_FINE_CHANNELS, 2 * bands + 1 + 6 * bands, 1)

    def forward(
        self, feature: Tensor, *, seen: Tensor, luma: list[Tensor], enlarging: Tensor
    ) -> Tensor:
        """Predicts.

        Args:
            feature: from which the gains are read, `(N, C, S / 8, S / 8)`.
            seen: of the pictures themselves, `(N, 32, S / 4, S / 4)`.
            luma: six bands, `(N, 2, S, S)`.
            enlarging: of `_enlarging`, to twice the size.

        Returns:
            `(N, 41, S / 4, S / 4)`: what is added to the gains of bands and of details.
        """
        energies = torch.cat([_energies_of_three(band) for band in luma[:-1]], dim=1)
        inside = self.conv_in(torch.cat((seen, _logarithm(energies)), dim=1))
        inside = _activate(inside + _enlarge(self.coarse(feature), enlarging))
        gains: Tensor = self.conv_out(_activate(self.conv_mid(inside)))
        return gains


class BandGains(nn.Module):
    """Predicts two gains for every band, of luma and of chroma, and applies them.

    With input x, restored picture y and their bands x_b and y_b, the result is
    Σ y_b + p_b (x_b - y_b) + q_b x_b: p goes back to the input, q strengthens what a blur has left
    of a band (not of the smoothest, whose mean is the picture's brightness). Both are 0 before
    training, so that the result is y. If `directed`, luma gets Σ p_d (x_d - y_d) + q_d x_d as well,
    over the details of five bands in three directions (`split_directions`). If `fine`, both sums of
    luma have gains for squares of 4 px: those of 8 px, enlarged, and what `FineGains` adds.

    Args:
        channels: width of the network that predicts.
        directed: whether detail is weighed by its direction too.
        fine: whether luma's gains are corrected in squares of half the side; only if `directed`.

    Raises:
        ValueError: fine without directed gains.
    """

    def __init__(self, channels: int, *, directed: bool = False, fine: bool = False) -> None:
        super().__init__()
        if fine and not directed:
            raise ValueError("fine gains need directed gains")
        bands = len(DILATIONS) + 1
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
        self.fine = FineGains(channels) if fine else None
        # Training begins with the restored picture; directions and fine gains may join later.
        for layer in self.layers_of_zeros():
            for parameter in layer.parameters():
                nn.init.zeros_(parameter)

    def layers_of_zeros(self) -> list[nn.Conv2d]:
        """Returns the layers whose parameters are all 0 before training."""
        directed = [] if self.directed is None else [self.directed.conv_in, self.directed.conv_out]
        fine = [] if self.fine is None else [self.fine.conv_out]
        return [self.conv_out, *directed, *fine]

    def forward(self, image: Tensor, restored: Tensor) -> Tensor:
        """Weighs.

        Args:
            image: the input, `(N, 3, S, S)` RGB in [-1, 1], S a multiple of 8.
            restored: what the main branch made of it, the same shape and range.

        Returns:
            `(N, 3, S, S)`, about [-1, 1], float32 arithmetic also under autocast: the bands'
            correlation is a difference of energies.
        """
        with full_precision(image):
            return self._weighed(image.float(), restored.float())

    def _weighed(self, image: Tensor, restored: Tensor) -> Tensor:
        both = torch.cat((image, restored), dim=1)
        lumas, chromas = (smooth(mix_channels(both, _of_both(to))) for to in (TO_LUMA, TO_CHROMA))
        bands = split_bands(lumas), split_bands(chromas)
        feature, seen = self._look(image, restored, bands, lumas)
        of_luma, of_chroma = self.conv_out(feature).chunk(2, dim=1)
        cells, num_gains = int(feature.shape[-1]), int(of_luma.shape[1])
        to_pixels = to_pixels_of_luma = image.new_tensor(_enlarging(cells, times=_CELL))
        if self.directed is not None:
            of_luma = torch.cat((of_luma, self.directed(feature)), dim=1)
        if self.fine is not None:
            twice = image.new_tensor(_enlarging(cells, times=2))
            finer = self.fine(feature, seen=seen, luma=bands[0], enlarging=twice)
            of_luma = _enlarge(of_luma, twice) + finer
            to_pixels_of_luma = image.new_tensor(_enlarging(2 * cells, times=_FINE_CELL))
        luma = _weigh_bands(bands[0], of_luma[:, :num_gains], to_pixels_of_luma)
        chroma = _weigh_bands(bands[1], of_chroma, to_pixels)
        del bands, chromas  # what weighs by direction needs their memory
        if self.directed is not None:
            details = (detail for band in split_directions(lumas) for detail in band)
            back, strength = of_luma[:, num_gains:].chunk(2, dim=1)
            luma = luma + _weigh(details, back, strength, to_pixels_of_luma)
        change = torch.cat([_sum_of_both(shares) for shares in (luma, chroma)], dim=1)
        return restored + mix_channels(change, TO_RGB)

    def _look(
        self,
        image: Tensor,
        restored: Tensor,
        bands: tuple[list[Tensor], list[Tensor]],
        lumas: list[Tensor],
    ) -> tuple[Tensor, Tensor]:
        """Returns the feature `(N, C, S / 8, S / 8)` from which all gains are read, and what is
        seen of the pictures themselves at twice its size, `(N, 32, S / 4, S / 4)`."""
        seen = torch.cat((image, restored - image), dim=1)
        *first, last = self.seen
        for conv in first:
            seen = _activate(conv(seen))
        finer, seen = seen, _activate(last(seen))
        brightness = _cells(lumas[-1])[:, :1]
        feature = self.conv_in(torch.cat((_statistics(*bands), brightness, seen), dim=1))
        if self.directed is not None:
            feature = feature + self.directed.look(lumas)
        feature = _activate(feature)
        for block in self.blocks:
            feature = block(feature)
        return _activate(feature), finer


def _statistics(luma: list[Tensor], chroma: list[Tensor]) -> Tensor:
    """Measures the bands of both pictures, `(N, 2, S, S)` and `(N, 4, S, S)`, in cells.

    Returns:
        `(N, 32, S / 8, S / 8)`: logarithms of the energies of the input's bands (of the smoothest,
        of its difference), of the restored picture's other bands, and the correlations of those; of
        luma and of chroma each.
    """
    energies = [_energies(band) for bands in (luma, chroma) for band in bands[:-1]]
    first, second, shared = (torch.cat(of_bands, dim=1) for of_bands in zip(*energies, strict=True))
    difference = torch.cat([_energy_of_difference(bands[-1]) for bands in (luma, chroma)], dim=1)
    correlation = shared / ((first + _FLOOR) * (second + _FLOOR)).sqrt()
    logarithms = _logarithm(torch.cat((first, difference, second), dim=1))
    return torch.cat((logarithms, correlation), dim=1)


def _logarithm(energies: Tensor) -> Tensor:
    """Returns what is about zero, and about as large as a correlation."""
    return (energies + _FLOOR).log() * 0.3 + 2


def _energies_of_three(band: Tensor) -> Tensor:
    """Maps `(N, 2, S, S)` to means of x², y², (x - y)² in squares of 4 px, `(N, 3, S/4, S/4)`."""
    x, y = band.chunk(2, dim=1)
    return F.avg_pool2d(torch.cat((band, x - y), dim=1).square(), _FINE_CELL)


def _energies(band: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Maps `(N, 2 C, S, S)` to three of `(N, 1, S / 8, S / 8)`: means of x², of y² and of x y."""
    first, second = (
        energies.sum(dim=1, keepdim=True) for energies in _cells(band.square()).chunk(2, dim=1)
    )
    # As x y = ((x + y)² - x² - y²) / 2, for x and y lie in one stack.
    together = _cells(_sum_of_both(band).square()).sum(dim=1, keepdim=True)
    return first, second, (together - first - second) / 2


def _energy_of_difference(band: Tensor) -> Tensor:
    """Maps `(N, 2 C, S, S)` to `(N, 1, S / 8, S / 8)`: the mean of (x - y)²."""
    first, second = band.chunk(2, dim=1)
    return _cells((first - second).square()).sum(dim=1, keepdim=True)


def _weigh_bands(bands: list[Tensor], gains: Tensor, enlarging: Tensor) -> Tensor:
    """Weighs six bands by gains `(N, 11, s, s)`, p of all and q of all but the last."""
    back, strength = gains[:, : len(bands)], gains[:, len(bands) :]
    none = torch.zeros_like(back[:, :1])
    return _weigh(bands, back, torch.cat((strength, none), dim=1), enlarging)


def _weigh(terms: Iterable[Tensor], back: Tensor, strength: Tensor, enlarging: Tensor) -> Tensor:
    """Weighs terms of both pictures: Σ p (x - y) + q x.

    Args:
        terms: T of `(N, 2 C, S, S)`, x the first C channels and y the others.
        back: p, `(N, T, s, s)` in squares of 8 px, or of 4.
        strength: q, of the same shape.
        enlarging: of `_enlarging`, to S.

    Returns:
        `(N, 2 C, S, S)`: what is to be added of x, Σ (p + q) x, and of y, -Σ p y.
    """
    of_input, of_restored = (torch.split(gains, 1, dim=1) for gains in (back + strength, -back))

    def share(term: Tensor, first: Tensor, second: Tensor) -> Tensor:
        channels = int(term.shape[1]) // 2
        gains = torch.cat([first] * channels + [second] * channels, dim=1)
        return _enlarge(gains, enlarging) * term

    # One after the other: at full size every picture that waits for its turn takes memory.
    shares = (share(*one) for one in zip(terms, of_input, of_restored, strict=True))
    return reduce(torch.add, shares)


def _sum_of_both(stack: Tensor) -> Tensor:
    """Maps `(N, 2 C, S, S)` to `(N, C, S, S)`."""
    count, channels, height, width = stack.shape
    return stack.reshape(count, 2, channels // 2, height, width).sum(dim=1)


def _enlarge(gains: Tensor, enlarging: Tensor) -> Tensor:
    """Maps `(N, C, s, s)` to `(N, C, t, t)`, bilinear, by a matrix `(t, s)` along either axis.

    OpenVINO takes ten times as long for an interpolation of so few planes.
    """
    return enlarging @ (gains @ enlarging.T)


def _enlarging(cells: int, *, times: int) -> list[list[float]]:
    """Returns bilinear interpolation as a matrix `(times cells, cells)`; centres at halves."""
    matrix = []
    for pixel in range(cells * times):
        place = min(max((pixel + 0.5) / times - 0.5, 0.0), cells - 1.0)
        before = int(place)
        row = [0.0] * cells
        row[before] += 1 - (place - before)
        row[min(before + 1, cells - 1)] += place - before
        matrix.append(row)
    return matrix


def _of_both(matrix: Matrix) -> Matrix:
    """Returns the matrix for a stack of two pictures' channels: each for itself."""
    none = (0.0,) * len(matrix[0])
    return (*((*row, *none) for row in matrix), *((*none, *row) for row in matrix))


def _cells(images: Tensor) -> Tensor:
    """Maps `(N, C, S, S)` to the means of cells, `(N, C, S / 8, S / 8)`."""
    return F.avg_pool2d(images, _CELL)


def _activate(feature: Tensor) -> Tensor:
    return F.leaky_relu(feature, 0.1)
