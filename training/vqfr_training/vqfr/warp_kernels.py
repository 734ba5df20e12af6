"""The inner loops of the deformable convolution on a CPU, compiled when they are first needed.

They look at one place after the other and go along the channels, which lie next to each other, so
that the processor takes eight at a time. What PyTorch can do with the same sampling on planes moves
ten times as much memory. Layouts: feature (N, H, W, C); offset (N, H, W, G, 9, 2) as (dy, dx)
pixels; mask (N, H, W, G, 9); columns (N, H, W, 9, C), tap by tap.
"""

from collections.abc import Callable
from functools import cache
from math import floor
from typing import Any

from numpy.typing import NDArray

type Array = NDArray[Any]


def sample_columns(x: Array, offset: Array, mask: Array, columns: Array) -> None:
    """Fills `columns` with what each tap sees, bilinear, times its mask; outside lie zeros."""
    count, height, width, channels = x.shape
    groups = mask.shape[3]
    each = channels // groups
    for n in range(count):
        for row in range(height):
            for column in range(width):
                for group in range(groups):
                    first = group * each
                    for tap in range(9):
                        out = columns[n, row, column, tap, first : first + each]
                        y = row + tap // 3 - 1 + offset[n, row, column, group, tap, 0]
                        x_at = column + tap % 3 - 1 + offset[n, row, column, group, tap, 1]
                        if y <= -1 or y >= height or x_at <= -1 or x_at >= width:
                            out[:] = 0
                            continue
                        top, left = floor(y), floor(x_at)
                        down, right = y - top, x_at - left
                        weight = mask[n, row, column, group, tap]
                        upper = weight * (1 - down) if top >= 0 else weight * 0
                        lower = weight * down if top < height - 1 else weight * 0
                        near = 1 - right if left >= 0 else right * 0
                        far = right if left < width - 1 else right * 0
                        top, bottom = max(top, 0), min(top + 1, height - 1)
                        left, beyond = max(left, 0), min(left + 1, width - 1)
                        a = x[n, top, left, first : first + each]
                        b = x[n, top, beyond, first : first + each]
                        c = x[n, bottom, left, first : first + each]
                        d = x[n, bottom, beyond, first : first + each]
                        for k in range(each):
                            out[k] = upper * (near * a[k] + far * b[k]) + lower * (
                                near * c[k] + far * d[k]
                            )


def gradients(
    x: Array,
    offset: Array,
    mask: Array,
    of_columns: Array,
    of_x: Array,
    of_offset: Array,
    of_mask: Array,
) -> None:
    """Adds to `of_x`, and fills `of_offset` and `of_mask` with, the gradients of `of_columns`."""
    count, height, width, channels = x.shape
    groups = mask.shape[3]
    each = channels // groups
    for n in range(count):
        for row in range(height):
            for column in range(width):
                for group in range(groups):
                    first = group * each
                    for tap in range(9):
                        y = row + tap // 3 - 1 + offset[n, row, column, group, tap, 0]
                        x_at = column + tap % 3 - 1 + offset[n, row, column, group, tap, 1]
                        if y <= -1 or y >= height or x_at <= -1 or x_at >= width:
                            of_offset[n, row, column, group, tap, 0] = 0
                            of_offset[n, row, column, group, tap, 1] = 0
                            of_mask[n, row, column, group, tap] = 0
                            continue
                        top, left = floor(y), floor(x_at)
                        down, right = y - top, x_at - left
                        one = right * 0 + 1
                        above = one if top >= 0 else one * 0
                        below = one if top < height - 1 else one * 0
                        before = one if left >= 0 else one * 0
                        behind = one if left < width - 1 else one * 0
                        top, bottom = max(top, 0), min(top + 1, height - 1)
                        left, beyond = max(left, 0), min(left + 1, width - 1)
                        given = of_columns[n, row, column, tap, first : first + each]
                        a = x[n, top, left, first : first + each]
                        b = x[n, top, beyond, first : first + each]
                        c = x[n, bottom, left, first : first + each]
                        d = x[n, bottom, beyond, first : first + each]
                        sum_a = sum_b = sum_c = sum_d = one * 0
                        for k in range(each):
                            sum_a += given[k] * a[k]
                            sum_b += given[k] * b[k]
                            sum_c += given[k] * c[k]
                            sum_d += given[k] * d[k]
                        sum_a *= above * before
                        sum_b *= above * behind
                        sum_c *= below * before
                        sum_d *= below * behind
                        weight = mask[n, row, column, group, tap]
                        upper = (1 - right) * sum_a + right * sum_b
                        lower = (1 - right) * sum_c + right * sum_d
                        of_mask[n, row, column, group, tap] = (1 - down) * upper + down * lower
                        of_offset[n, row, column, group, tap, 0] = weight * (lower - upper)
                        of_offset[n, row, column, group, tap, 1] = weight * (
                            (1 - down) * (sum_b - sum_a) + down * (sum_d - sum_c)
                        )
                        to_a = weight * (1 - down) * (1 - right) * above * before
                        to_b = weight * (1 - down) * right * above * behind
                        to_c = weight * down * (1 - right) * below * before
                        to_d = weight * down * right * below * behind
                        at_a = of_x[n, top, left, first : first + each]
                        at_b = of_x[n, top, beyond, first : first + each]
                        at_c = of_x[n, bottom, left, first : first + each]
                        at_d = of_x[n, bottom, beyond, first : first + each]
                        for k in range(each):
                            at_a[k] += to_a * given[k]
                        for k in range(each):
                            at_b[k] += to_b * given[k]
                        for k in range(each):
                            at_c[k] += to_c * given[k]
                        for k in range(each):
                            at_d[k] += to_d * given[k]


@cache
def compiled() -> tuple[Callable[..., None], Callable[..., None]]:
    """Compiles `sample_columns` and `gradients`; the first call takes seconds."""
    import numba

    # Sums of a few channels may be reordered: that is what lets them go eight at a time.
    fast = numba.njit(nogil=True, fastmath={"reassoc", "contract", "nsz"}, error_model="numpy")
    return fast(sample_columns), fast(gradients)
