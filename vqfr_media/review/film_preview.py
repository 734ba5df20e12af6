"""A restoration tried on a few seconds of a film, beside the original: a film and a sheet."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from vqfr_media.errors import InputError, OptionError
from vqfr_media.faces.detect import Detector, detect
from vqfr_media.files import check_place, check_source, refuse_same
from vqfr_media.frames import Frame, VideoInfo
from vqfr_media.media.cut import find_cut
from vqfr_media.media.image import is_image
from vqfr_media.media.index import FrameIndex, make_index, read_frames, without_false_keys
from vqfr_media.media.read import open_video
from vqfr_media.media.rgb_clip import Picture, write_clip, write_picture
from vqfr_media.options import RestoreOptions
from vqfr_media.prepare import Prepared, prepare
from vqfr_media.restoration.fields import frames_around, restore_pictures
from vqfr_media.restoration.restore import Restorer
from vqfr_media.review.drawn_video import QUALITY, is_picture_file
from vqfr_media.review.pairs import Pair, display_size
from vqfr_media.review.pick import SampledMoment, Stretch, pick_stretches
from vqfr_media.review.picture import fit_within, grid, pad_to_even, titled, upright_size
from vqfr_media.review.views import LONGEST, draw_side_by_side
from vqfr_media.time_range import TimeRange
from vqfr_media.weights import Progress
from vqfr_media.windows import READ_AHEAD, prefetch, widened

# Frames of the film in which faces are looked for.
_SAMPLES = 48
# Moments of each stretch on the sheet, and the longer side of one there.
_MOMENTS = 2
_ON_SHEET = 960


@dataclass(frozen=True)
class FilmPreview:
    """What was written."""

    stretches: tuple[Stretch, ...]
    """The parts of the film that were restored."""
    frames: int
    """Frames in them."""
    seconds: float
    """Wall time of restoring and writing them, without what comes once."""
    film_frames: int
    """Frames of the whole film."""

    @property
    def film_seconds(self) -> float:
        """Wall time of the whole film, if all of it had as many faces as these parts."""
        return self.seconds / self.frames * self.film_frames


def preview_film(
    source: Path,
    output: Path,
    sheet: Path,
    options: RestoreOptions | None = None,
    *,
    seconds: float = 5.0,
    stretches: int = 3,
    ready: Prepared | None = None,
    on_start: Callable[[VideoInfo], None] | None = None,
    on_frame: Callable[[Frame], None] | None = None,
    on_fetch: Progress | None = None,
) -> FilmPreview:
    """Restores the parts of a film that tell most, and draws them beside the original.

    The frames are those of a restoration of the whole film, bit for bit, before they are drawn.

    Args:
        source: video to read.
        output: film to write, H.264, without sound; gets its name when it is complete.
        sheet: picture to write, with moments of each part.
        options: how faces are restored, and in which part of the film these parts may lie.
        seconds: length of each part, 0.2 to 60.
        stretches: most parts, 1 to 3.
        ready: what `prepare` gave for these options.
        on_start: called once, with what is known of the film and the number of frames to restore.
        on_frame: called with each restored frame.
        on_fetch: called while weights are fetched.

    Raises:
        InputError: the source is no video or has no face, or an option is at fault.
        MachineError: an output cannot be written, or weights, backend or device are not here.
    """
    options = options or RestoreOptions()
    check_preview_outputs(source, output, sheet)
    if not 0.2 <= seconds <= 60 or not 1 <= stretches <= 3:
        raise OptionError(
            f"a preview has 1 to 3 stretches of 0.2 to 60 seconds, got {stretches} of {seconds:g}"
        )
    if options.fields == "deinterlace":
        raise OptionError("a preview shows fields as they are; leave out --fields deinterlace")
    if options.tracks is not None:
        raise OptionError(f"a preview finds its own faces; leave out --tracks {options.tracks}")
    with open_video(source, fields=options.fields) as reader:
        info = reader.info
    index = make_index(source, info)
    within = find_cut(source, index, info, options.part).frames
    ready = ready or prepare(options, None, None, on_fetch=on_fetch)
    assert ready.detector is not None  # noqa: S101 - there are no tracks
    moments = list(_sampled(source, index, info, within, ready.detector, options))
    zero = moments[0].seconds
    first, last = (_seconds(index, info, number) for number in (within[0], within[-1]))
    film_seconds = last - first + float(1 / info.frame_rate)
    moved = [replace(moment, seconds=moment.seconds - zero) for moment in moments]
    picked = pick_stretches(moved, film_seconds=film_seconds, length=seconds, count=stretches)
    if not picked:
        raise InputError(
            f"{source}: no face in {len(moments)} frames of it that were looked at; a lower "
            "--score or --min-face finds more"
        )
    picked = tuple(replace(s, start=s.start + zero, stop=s.stop + zero) for s in picked)
    cuts = [_frames_of(index, info, stretch, within) for stretch in picked]
    total = sum(map(len, cuts))
    if on_start is not None:
        on_start(replace(info, frame_count_from_header=total))
    started = time.monotonic()
    tiles: list[Picture] = []

    def drawn() -> Iterator[Picture]:
        size = upright_size(display_size(info))
        draw = draw_side_by_side(size, ("before", "after"))
        for stretch, frames in zip(picked, cuts, strict=True):
            shown = {
                frames[(2 * number + 1) * len(frames) // (2 * _MOMENTS)]
                for number in range(_MOMENTS)
            }
            for pair in _restored(source, index, info, frames, ready, options):
                title = f"{clock(pair.seconds)}: {stretch.why}"
                picture = titled(draw(pair), title)
                if pair.after.index in shown:
                    tiles.append(fit_within(picture, _ON_SHEET))
                yield pad_to_even(fit_within(picture, LONGEST))
                if on_frame is not None:
                    on_frame(pair.after)

    write_clip(output, drawn(), frame_rate=info.frame_rate, quality=QUALITY)
    write_picture(sheet, fit_within(grid(tiles), 2 * LONGEST))
    return FilmPreview(picked, total, time.monotonic() - started, len(within))


def check_preview_outputs(source: Path, output: Path, sheet: Path) -> None:
    """Refuses what cannot be previewed or written, by the names and kinds of the files.

    Raises:
        InputError: the source is missing or an image, or an output is the source.
        OptionError: the film has a picture's name, or the sheet has not.
        OutputError: a folder is missing.
    """
    check_source(source, kind="a video")
    if is_image(source):
        raise OptionError(f"{source} is an image; `vqfr-media restore` shows all of it at once")
    for path in (output, sheet):
        refuse_same(path, source)
        check_place(path)
    if is_picture_file(output):
        raise OptionError(f"{output}: the preview is a film; give it a name in .mp4 or .mkv")
    if not is_picture_file(sheet):
        raise OptionError(f"{sheet}: the sheet is a picture; give it a name in .png")


def clock(seconds: float) -> str:
    """Returns a time as people write it: `1:02:10.5`."""
    tenths = round(seconds * 10)
    minutes, rest = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest // 10:02}.{rest % 10}"


def _sampled(
    source: Path,
    index: FrameIndex,
    info: VideoInfo,
    within: range,
    detector: Detector,
    options: RestoreOptions,
) -> Iterator[SampledMoment]:
    """Looks for faces in evenly spaced frames, or in key frames near them, which come sooner."""
    face = options.face
    count = min(_SAMPLES, len(within))
    spacing = len(within) / count
    for sample in range(count):
        number = within[int(sample * spacing)]
        near = index.keys[(index.keys >= number) & (index.keys < number + spacing)]
        if len(near) and int(near[0]) in within:
            number = int(near[0])
        (frame,) = read_frames(source, index, range(number, number + 1))
        found = detect(frame, detector, proxy=face.proxy, score=face.score)
        faces = tuple(
            one
            for one in found.faces
            if one.score >= face.score and face.min_face <= one.size <= face.max_face
        )
        yield SampledMoment(_seconds(index, info, number), faces)


def _seconds(index: FrameIndex, info: VideoInfo, number: int) -> float:
    return float(int(index.times[number]) * info.time_base - info.clock_start)


def _frames_of(index: FrameIndex, info: VideoInfo, stretch: Stretch, within: range) -> range:
    """Returns the frames of a stretch."""
    half = float(1 / info.frame_rate) / 2
    numbers = [
        number
        for number in within
        if stretch.start - half <= _seconds(index, info, number) < stretch.stop - half
    ]
    return range(numbers[0], numbers[-1] + 1)


def _restored(
    source: Path,
    index: FrameIndex,
    info: VideoInfo,
    frames: range,
    ready: Prepared,
    options: RestoreOptions,
) -> Iterator[Pair]:
    """Yields the frames with those of a restoration, which sees the frames around them too."""
    stages = replace(options, strict=False, upscale=1, part=TimeRange())
    restorer = Restorer(ready.engine, ready.detector, stages, info.time_base, info.frame_rate, None)
    read = widened(frames, frames_around(restorer, info.first_field), len(index))
    keyed = without_false_keys(source, index, read.start)
    with (
        prefetch(read_frames(source, keyed, read), READ_AHEAD) as pictures,
        prefetch(
            restore_pictures(pictures, restorer, order=info.first_field, wanted=frames),
            READ_AHEAD,
        ) as restored,
        prefetch(read_frames(source, keyed, frames), READ_AHEAD) as originals,
    ):
        for before, (after, _) in zip(originals, restored, strict=True):
            yield Pair(before, after, _seconds(index, info, before.index))
