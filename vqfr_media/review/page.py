"""The page of a report: what was measured, in words, pictures and plots, in one HTML text."""

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from vqfr_media.review.figures import Figures
from vqfr_media.review.headline import is_clear, pairs_of, restored_words, worst_tracks
from vqfr_media.review.measurement import Clip, MeasuredRestoration, MeasuredTrack, Moment
from vqfr_media.review.plots import draw_lines, draw_spans
from vqfr_media.review.restore_run import RestoreRun

UNKNOWN = "–"
# A row of the timeline for each face: more would be lines, not bars.
_MOST_SPANS = 60


@dataclass(frozen=True)
class FigureRow:
    """A line of a table of figures."""

    name: str
    """What is measured."""
    before: str
    """In the source, with the unit."""
    after: str
    """In the result."""
    verdict: str
    """What became of it, in words."""


@dataclass(frozen=True)
class Plot:
    """A drawing and what it says to those who do not see it."""

    title: str
    """What is drawn."""
    svg: str
    """The drawing; safe to put into a page."""
    words: str
    """The same in a sentence."""


@dataclass(frozen=True)
class PageTrack:
    """A track as the page shows it."""

    track: MeasuredTrack
    """What was measured."""
    rows: tuple[FigureRow, ...]
    """Its figures."""
    reasons: str
    """Why it was left alone, and in how many frames; empty where it was not."""
    plots: tuple[Plot, ...]
    """Its figures over time."""


def render(
    measured: MeasuredRestoration, run: RestoreRun | None, *, notes: Sequence[str] = ()
) -> str:
    """Returns the whole page.

    Args:
        measured: what is shown.
        run: what the restoration said of itself; None where that is not known.
        notes: what a reader should know before believing it.
    """
    from jinja2 import Environment, StrictUndefined

    shown = [track for track in measured.tracks if track.moments]
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["picture"] = _data_url
    known = knows_left_alone(measured, run)
    template, style = (
        Path(__file__).with_name(name).read_text(encoding="utf-8")
        for name in ("report.html.j2", "base.css")
    )
    return environment.from_string(template).render(
        measured=measured,
        clips=[(name, _clip(clip)) for name, clip in
               (("Source", measured.source), ("Result", measured.restored))],
        rows=figure_rows(measured.figures, known=known, series=[
            part for track in measured.tracks for part in track.series
        ]) if measured.figures is not None else (),
        restored=restored_words(measured, known=known) if measured.tracks else "",
        worst=worst_tracks(measured),
        reasons=reasons_text(measured.reasons),
        known=known,
        timeline=_timeline(measured, shown) if shown and measured.seconds > 0 else None,
        tracks=[_page_track(track, measured.seconds, known) for track in shown],
        others=[(track, figure_rows(track.figures, known=known)) for track in measured.tracks
                if not track.moments],
        run=run,
        notes=notes,
        style=style,
        version=version("vqfr-media"),
    )  # fmt: skip


def figure_rows(
    figures: Figures, *, known: bool, series: Sequence[Figures] = ()
) -> tuple[FigureRow, ...]:
    """Returns the figures of one face, or of all, with units and in words.

    Args:
        figures: what was measured.
        known: whether it is known which faces were left alone.
        series: the same over time, by whose scatter a difference is judged.
    """
    one, other = figures.jitter_before, figures.jitter_after
    jitter = _verdict(one, other, "steadier", "less steady")
    flicker = _verdict(figures.flicker_before, figures.flicker_after, "calmer", "less calm")
    if jitter and not is_clear(pairs_of(series, "jitter")):
        jitter = "no clear difference"
    if flicker and not is_clear(pairs_of(series, "flicker")):
        flicker = "no clear difference"
    in_time = []
    for title, name, less, more in (
        ("Mesh jitter, px", "mesh_jitter", "steadier", "less steady"),
        ("Unsteadiness, px", "unsteadiness", "steadier", "less steady"),
        ("Drift of identity", "drift", "more alike", "less alike"),
    ):
        pair = (getattr(figures, f"{name}_before"), getattr(figures, f"{name}_after"))
        verdict = _verdict(*pair, less, more)
        if verdict and not is_clear(pairs_of(series, name)):
            verdict = "no clear difference"
        in_time.append(FigureRow(title, _number(pair[0]), _number(pair[1]), verdict))
    return (
        FigureRow("Landmark jitter, px", _number(one), _number(other), jitter),
        FigureRow(
            "Flicker, levels",
            _number(figures.flicker_before),
            _number(figures.flicker_after),
            flicker,
        ),
        FigureRow(
            "Sharpness, × source",
            "1",
            _number(figures.sharpness),
            _verdict(1.0, figures.sharpness, "softer", "sharper"),
        ),
        FigureRow("Change, levels", UNKNOWN, _number(figures.change), ""),
        *in_time,
        FigureRow("Left alone, %", UNKNOWN, _percent(figures.skipped) if known else UNKNOWN, ""),
        FigureRow("Not found after, %", UNKNOWN, _percent(figures.lost), ""),
    )


def reasons_text[Reason: str](reasons: Mapping[Reason, int]) -> str:
    """Returns `12 × too small, 3 × disabled`."""
    return ", ".join(f"{count} × {reason}" for reason, count in sorted(reasons.items()))


def knows_left_alone(measured: MeasuredRestoration, run: RestoreRun | None) -> bool:
    """Returns whether it is known of every face whether it was left alone."""
    if measured.reasons:
        return True
    return run is not None and (run.face is not None or not run.skipped)


def left_alone(track: MeasuredTrack) -> list[tuple[float, float]]:
    """Returns stretches of seconds in which most faces of the track were left alone."""
    return [(start, end) for start, end, skipped in _stretches(track) if skipped]


def _stretches(track: MeasuredTrack) -> list[tuple[float, float, bool]]:
    """Returns from, to, and whether the face was left alone; equal neighbours are joined."""
    found: list[tuple[float, float, bool]] = []
    ends = [
        (one.seconds + two.seconds) / 2
        for one, two in zip(track.series, track.series[1:], strict=False)
    ]
    starts = [track.first_seconds, *ends]
    for part, start, end in zip(track.series, starts, [*ends, track.last_seconds], strict=True):
        skipped = part.skipped > 0.5
        if found and found[-1][2] == skipped:
            start = found.pop()[0]
        found.append((start, end, skipped))
    return found


def _page_track(track: MeasuredTrack, seconds: float, known: bool) -> PageTrack:
    rows = figure_rows(track.figures, known=known, series=track.series)
    plots = () if len(track.series) < 3 or seconds <= 0 else tuple(_plots(track, rows))
    return PageTrack(track, rows, reasons_text(track.reasons), plots)


def _plots(track: MeasuredTrack, rows: Sequence[FigureRow]) -> Iterable[Plot]:
    seconds = [part.seconds for part in track.series]
    span = (track.first_seconds, track.last_seconds)
    shaded = left_alone(track)
    for title, unit, row, columns, baseline in (
        ("Landmark jitter", "px", rows[0], ("jitter_before", "jitter_after"), None),
        ("Flicker", "levels", rows[1], ("flicker_before", "flicker_after"), None),
        ("Sharpness", "× source", rows[2], ("", "sharpness"), 1.0),
        ("Change", "levels", rows[3], ("", "change"), None),
    ):
        lines = [
            (name, seconds, [getattr(part, column) for part in track.series])
            for name, column in zip(("before", "after"), columns, strict=True)
            if column
        ]
        svg = draw_lines(
            f"{track.id}-{track.first_frame}-{title}", lines,
            unit=unit, span=span, baseline=baseline, shaded=shaded,
        )  # fmt: skip
        known = f"{row.before} before, " if len(lines) == 2 else ""
        words = (
            f"{title} of face {track.id} from {span[0]:.2f} to {span[1]:.2f} seconds: "
            f"{known}{row.after} after, {unit}, over all frames"
        )
        yield Plot(title, svg, words)


def _timeline(measured: MeasuredRestoration, shown: Sequence[MeasuredTrack]) -> Plot:
    rows = [(f"#{track.id}", _stretches(track)) for track in shown[:_MOST_SPANS]]
    faces = ", ".join(
        f"face {track.id} from {track.first_seconds:.1f} to {track.last_seconds:.1f}"
        for track in shown[:_MOST_SPANS]
    )
    return Plot(
        "When each face is there",
        draw_spans("timeline", rows, seconds=measured.seconds),
        f"In seconds: {faces}",
    )


def _clip(clip: Clip) -> str:
    size = f"{clip.size_bytes / 1e6:.2f} MB" if clip.size_bytes >= 1e5 else f"{clip.size_bytes} B"
    rate = "" if clip.image else f", {clip.frame_rate:.6g} frames per second"
    return f"{clip.name}: {clip.width} × {clip.height}, {clip.bits} bit{rate}, {size}"


def _data_url(moment: Moment, when: str) -> str:
    data = base64.b64encode(moment.before if when == "before" else moment.after)
    return f"data:image/jpeg;base64,{data.decode('ascii')}"


def _number(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:.2f}"


def _percent(value: float) -> str:
    return f"{100 * value:.1f}"


def _verdict(before: float | None, after: float | None, less: str, more: str) -> str:
    if before is None or after is None or before <= 0:
        return ""
    percent = 100 * (after / before - 1)
    if abs(percent) < 0.5:
        return "as before"
    return f"{abs(percent):.0f} % {less if percent < 0 else more}"
