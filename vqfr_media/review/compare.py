"""Two clips, or two images, drawn into one: side by side, as a wipe, or their faces zoomed."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from vqfr_media.errors import InputError, OptionError
from vqfr_media.faces.tracks import Tracks
from vqfr_media.files import check_place, refuse_same
from vqfr_media.frames import Frame, VideoInfo
from vqfr_media.media.image import is_image
from vqfr_media.media.rgb_clip import Picture, write_picture
from vqfr_media.review.drawn_video import is_picture_file, refuse_video_of_images, write_drawn
from vqfr_media.review.pairs import Pair, Pairing, common_size, open_pair
from vqfr_media.review.picture import fit_within, grid, titled
from vqfr_media.review.views import LONGEST, Draw, draw_faces, draw_side_by_side, draw_wipe
from vqfr_media.review.zoom import ZoomPlan, plan_zoom

CompareMode = Literal["side-by-side", "wipe", "faces"]
# Longer side of a moment on a sheet of several.
_ON_SHEET = 960


@dataclass(frozen=True, kw_only=True)
class CompareOptions:
    """How two clips are shown."""

    mode: CompareMode = "side-by-side"
    """Both pictures whole, one picture with a divider, or the faces enlarged."""
    labels: tuple[str, str] = ("before", "after")
    """Names of the two, written on the picture."""
    divider: float | None = None
    """Place of a wipe's divider, 0 (left) to 1 (right); by default it moves, and stands in the
    middle of a picture."""
    sweep_seconds: float = 4.0
    """Time in which a moving divider goes to both sides and comes back."""
    moments: int = 6
    """Evenly spaced moments of a video on a sheet, where the output is a picture."""
    rows: int = 3
    """Most faces that are shown at the same time."""

    def __post_init__(self) -> None:
        if self.mode not in get_args(CompareMode):
            modes = ", ".join(get_args(CompareMode))
            raise OptionError(f"mode must be one of {modes}, got {self.mode!r}")
        if self.divider is not None and not 0 <= self.divider <= 1:
            raise OptionError(f"divider must be between 0 and 1, got {self.divider:g}")
        if not 0.1 <= self.sweep_seconds <= 3600:
            raise OptionError(
                f"sweep_seconds must be between 0.1 and 3600, got {self.sweep_seconds:g}"
            )
        for name, value, high in (("moments", self.moments, 100), ("rows", self.rows, 12)):
            if not 1 <= value <= high:
                raise OptionError(f"{name} must be between 1 and {high}, got {value}")
        if self.divider is not None and self.mode != "wipe":
            raise OptionError(f"only mode wipe has a divider, not {self.mode}; leave divider out")


@dataclass(frozen=True)
class Comparison:
    """What was written."""

    frames: int
    """Moments in the output."""
    size: tuple[int, int]
    """Columns and rows."""
    notes: tuple[str, ...] = ()
    """What could not be shown or carried over."""


def compare(
    before: Path,
    after: Path,
    output: Path,
    options: CompareOptions | None = None,
    *,
    find: Callable[[], Tracks] | None = None,
    on_start: Callable[[VideoInfo], None] | None = None,
    on_frame: Callable[[Frame], None] | None = None,
) -> Comparison:
    """Draws two videos of the same moments into a video or a sheet, or two images into one.

    Both are shown upright, the smaller one enlarged to the size of the larger one. A video has the
    times and the sound of `before`.

    Args:
        before: video or image.
        after: the same moments: frames are paired by time.
        output: file to write; an image suffix asks for a sheet of a few moments.
        options: how they are shown.
        find: gives the faces of `before`; only asked in mode faces.
        on_start: called once, with what is known of `before`.
        on_frame: called with each frame of `before`, for progress.

    Raises:
        ValueError: mode faces without `find`.
        InputError: an input cannot be read, or they do not show the same moments at the same
            shape, or the output is one of them, or there is no face to zoom in on.
        OutputError: the folder is missing or not writable, or the disk is full.
    """
    options = options or CompareOptions()
    for path in (before, after):
        refuse_same(output, path)
    if is_image(before) and is_image(after):
        refuse_video_of_images(output)
    check_place(output)
    with open_pair(before, after):  # what is wrong with them is said before faces are looked for
        pass
    plan = None
    if options.mode == "faces":
        if find is None:
            raise ValueError("mode faces needs the faces of the first clip")
        plan = _plan(before, after, find(), options)
    wanted = None
    if is_picture_file(output):
        wanted = _moments(before, after, plan, options.moments)
    notes: list[str] = []
    if plan is not None and plan.hidden:
        notes.append(f"{plan.hidden} tracks were not shown: more than {options.rows} at a time")
    with open_pair(before, after) as pairing:
        if on_start is not None:
            on_start(pairing.before)
        pairs = _seen(pairing.pairs, on_frame)
        draw = _drawing(pairing, options, plan, still=wanted is not None)
        if wanted is not None:
            return _write_sheet(output, pairs, draw, wanted, notes)
        drawn = _Counted((pair.before, draw(pair)) for pair in pairs)
        notes += write_drawn(output, before, pairing.before, drawn)
    return Comparison(drawn.count, drawn.size, tuple(notes))


class _Counted:
    """Passes pictures on, and keeps their number and size."""

    def __init__(self, drawn: Iterator[tuple[Frame, Picture]]) -> None:
        self._drawn = drawn
        self.count = 0
        self.size = (0, 0)

    def __iter__(self) -> Iterator[tuple[Frame, Picture]]:
        for frame, picture in self._drawn:
            self.count += 1
            self.size = (picture.shape[1], picture.shape[0])
            yield frame, picture


def _drawing(
    pairing: Pairing, options: CompareOptions, plan: ZoomPlan | None, *, still: bool
) -> Draw:
    size = common_size(pairing)
    match options.mode:
        case "side-by-side":
            return draw_side_by_side(size, options.labels)
        case "wipe":
            divider = 0.5 if still and options.divider is None else options.divider
            return draw_wipe(
                size, options.labels, divider=divider, sweep_seconds=options.sweep_seconds
            )
        case "faces":
            assert plan is not None  # noqa: S101 - compare made it
            return draw_faces(plan, options.labels)


def _plan(before: Path, after: Path, tracks: Tracks, options: CompareOptions) -> ZoomPlan:
    with open_pair(before, after) as pairing:
        info = pairing.before
        tracks.check_picture(info.width, info.height, info.display)
        larger = common_size(pairing)[0]
        # Compared with the first clip's own size: its display coordinates are those of the tracks.
        first = next(pairing.pairs).before.display_size[0]
    plan = plan_zoom(tracks, rows=options.rows, scale=larger / first)
    if not plan.views:
        raise InputError(
            f"{before}: no face was found to zoom in on; choose another --mode, or a lower --score"
        )
    return plan


def _moments(before: Path, after: Path, plan: ZoomPlan | None, count: int) -> frozenset[int]:
    """Returns numbers of evenly spaced frames; of those with faces, where faces are zoomed."""
    if is_image(before):
        return frozenset([0])
    if plan is not None:
        frames = sorted(plan.views)
    else:
        # What a header claims may be wrong, so the frames are counted.
        with open_pair(before, after) as pairing:
            frames = list(range(sum(1 for _ in pairing.pairs)))
    return frozenset(
        frames[(2 * number + 1) * len(frames) // (2 * count)] for number in range(count)
    )


def _seen(pairs: Iterator[Pair], on_frame: Callable[[Frame], None] | None) -> Iterator[Pair]:
    for pair in pairs:
        yield pair
        if on_frame is not None:
            on_frame(pair.before)


def _write_sheet(
    output: Path, pairs: Iterator[Pair], draw: Draw, wanted: frozenset[int], notes: list[str]
) -> Comparison:
    tiles = []
    for pair in pairs:
        if pair.before.index in wanted:
            picture = draw(pair)
            if len(wanted) > 1:
                picture = titled(fit_within(picture, _ON_SHEET), f"{pair.seconds:.3f} s")
            tiles.append(picture)
    sheet = tiles[0] if len(tiles) == 1 else fit_within(grid(tiles), 2 * LONGEST)
    write_picture(output, sheet)
    return Comparison(len(tiles), (sheet.shape[1], sheet.shape[0]), tuple(notes))
