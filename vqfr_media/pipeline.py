"""From a path to a path: the stages of a restoration, streamed."""

import time
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from pathlib import Path

from vqfr_media.engine import ChosenModel, Engine
from vqfr_media.faces.detect import Detector
from vqfr_media.frames import Frame, VideoInfo
from vqfr_media.media.image import check_image_output, read_image, write_image
from vqfr_media.media.output import refuse_same
from vqfr_media.media.read import open_video
from vqfr_media.media.write import open_writer
from vqfr_media.options import RestoreOptions
from vqfr_media.prepare import load_tracks, prepare
from vqfr_media.restore import Restorer
from vqfr_media.summary import Summary, Tally
from vqfr_media.values import AlignedFace, EncodedFace, RestoredFace, Stage
from vqfr_media.weights import Progress
from vqfr_media.windows import READ_AHEAD, in_batches, prefetch, sliding


def restore_frames(
    frames: Iterable[Frame], restorer: Restorer
) -> Iterator[tuple[Frame, Stage[RestoredFace]]]:
    """Yields every frame restored, and what was done to it; holds a few windows, never the film."""
    size = restorer.engine.spec.max_batch
    if restorer.tracks is None:
        detected = map(restorer.detect, frames)
        tracked = map(restorer.track, sliding(detected, restorer.track_radius))
    else:
        tracked = map(restorer.tracks.stage, frames)
    chosen = map(restorer.choose, sliding(tracked, restorer.choose_radius))
    aligned = map(restorer.align, sliding(chosen, restorer.align_radius))
    encoded = in_batches(aligned, restorer.encode, size_of=num_faces, batch_size=size)
    settled = map(restorer.settle, sliding(encoded, restorer.latent_radius))
    decoded = in_batches(settled, restorer.decode, size_of=num_faces, batch_size=size)
    steadied = map(restorer.steady, sliding(decoded, restorer.pixel_radius))
    return ((restorer.blend(stage), stage) for stage in steadied)


def num_faces(stage: Stage[AlignedFace] | Stage[EncodedFace]) -> int:
    """What a frame adds to a batch."""
    return len(stage.faces)


def restore_video(
    source: Path | str,
    output: Path | str,
    options: RestoreOptions | None = None,
    *,
    engine: Engine | None = None,
    detector: Detector | None = None,
    on_start: Callable[[VideoInfo], None] | None = None,
    on_frame: Callable[[Frame], None] | None = None,
    on_fetch: Progress | None = None,
) -> Summary:
    """Restores the faces of a video; everything else in the file is carried over.

    Args:
        source: Video to read.
        output: File to write; it gets this name only when it is complete.
        options: What to do; defaults are meant to be good.
        engine: Used instead of the one that `options.model` asks for.
        detector: Used instead of the one that `options.face` asks for.
        on_start: Called once, with what is known of the source.
        on_frame: Called with each frame handed to the encoder, for progress and inspection.
        on_fetch: Called with bytes done and bytes in all while weights are downloaded.

    Raises:
        InputError: the source, an option or the weights are at fault.
        MachineError: the output cannot be written, or weights, backend or device are not here.
        EngineError: the network failed.
    """
    options = options or RestoreOptions()
    source, output = Path(source), Path(output)
    started = time.monotonic()
    tally = Tally()
    with open_video(source) as reader:
        info = reader.info
        with open_writer(output, source, info, options.encode, upscale=options.upscale) as writer:
            tracks = load_tracks(options.tracks, info.width, info.height, info.display)
            if tracks is not None:
                tracks.check_claim(info.frame_count_from_header)
            engine, detector, chosen = prepare(options, engine, detector, on_fetch=on_fetch)
            restorer = Restorer(engine, detector, options, info.time_base, info.frame_rate, tracks)
            if on_start is not None:
                on_start(info)
            with (
                prefetch(reader, READ_AHEAD) as frames,
                prefetch(restore_frames(frames, restorer), READ_AHEAD) as restored,
            ):
                for frame, stage in restored:
                    writer.write(frame)
                    tally.add(stage)
                    if on_frame is not None:
                        on_frame(frame)
            if tracks is not None:
                tracks.check_count(tally.frames)
    return _summarise(tally, chosen, engine, source, output, started, tuple(writer.warnings))


def restore_image(
    source: Path | str,
    output: Path | str,
    options: RestoreOptions | None = None,
    *,
    engine: Engine | None = None,
    detector: Detector | None = None,
    on_fetch: Progress | None = None,
) -> Summary:
    """Restores the faces of an image; takes, returns and raises what `restore_video` does."""
    options = options or RestoreOptions()
    source, output = Path(source), Path(output)
    started = time.monotonic()
    tally = Tally()
    refuse_same(output, source)
    frame, extras = read_image(source)
    check_image_output(output, frame, options.encode, upscale=options.upscale)
    tracks = load_tracks(options.tracks, frame.width, frame.height, frame.display)
    if tracks is not None:
        tracks.check_count(1)
    engine, detector, chosen = prepare(options, engine, detector, on_fetch=on_fetch)
    restorer = Restorer(engine, detector, options, Fraction(1), Fraction(1), tracks)
    for restored, stage in restore_frames([frame], restorer):
        write_image(output, restored, extras, options.encode)
        tally.add(stage)
    return _summarise(tally, chosen, engine, source, output, started, ())


def _summarise(
    tally: Tally,
    chosen: ChosenModel,
    engine: Engine,
    source: Path,
    output: Path,
    started: float,
    warnings: tuple[str, ...],
) -> Summary:
    return Summary(
        source=source,
        output=output,
        model=chosen.name,
        why=chosen.why,
        device=engine.spec.device,
        frames=tally.frames,
        seconds=time.monotonic() - started,
        restored=tally.restored,
        skipped=dict(tally.skipped),
        shots=tuple(tally.shots),
        tracks=tuple(tally.tracks),
        warnings=warnings,
    )
