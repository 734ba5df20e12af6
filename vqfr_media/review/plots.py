"""Plots as SVG text that takes the page's own ink, so that it reads on light and on dark."""

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from vqfr_media.errors import BackendError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# At least 3:1 against white and against the page's dark ground; told apart by dashes as well.
BEFORE = "#d97706"
AFTER = "#3b82f6"
# Stands for the ink of the page: SVG has a word for it that Matplotlib does not know.
_INK = "#123456"
_INCHES = (3.8, 1.75)

Line = tuple[str, Sequence[float], Sequence[float | None]]
"""A name (before or after), seconds, and a value for each; None is a gap."""


def check_plots_available() -> None:
    """Raises a BackendError where the plotting library or the template engine is not installed."""
    try:
        import jinja2  # noqa: F401
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise BackendError(
            f"a report needs {error.name}: pip install 'vqfr-media[report]'"
        ) from error


def draw_lines(
    key: str,
    lines: Sequence[Line],
    *,
    unit: str,
    span: tuple[float, float],
    baseline: float | None = None,
    shaded: Sequence[tuple[float, float]] = (),
) -> str:
    """Returns an SVG of values over time.

    Args:
        key: unique on the page; names the SVG's parts.
        lines: what is drawn.
        unit: of the values, for the vertical axis.
        span: seconds at the left and at the right end.
        baseline: a value with a line of its own, such as 1 for "as sharp".
        shaded: stretches of seconds that are marked.
    """
    with _figure(key) as (figure, axes):
        for name, seconds, values in lines:
            axes.plot(
                seconds,
                [float("nan") if value is None else value for value in values],
                color=AFTER if name == "after" else BEFORE,
                linestyle="-" if name == "after" else (0, (4, 1.5)),
                linewidth=1.4,
                marker="." if len(seconds) == 1 else "",
                label=name,
            )
        for start, end in shaded:
            axes.axvspan(start, end, facecolor=_INK, alpha=0.14, linewidth=0)
        if baseline is not None:
            axes.axhline(baseline, color=_INK, linewidth=0.7, alpha=0.7)
        known = [value for _, _, values in lines for value in values if value is not None]
        top = max([*known, baseline or 0.0, 1e-3])
        axes.set_ylim(0, 1.12 * top)
        axes.set_xlim(span[0], span[1] if span[1] > span[0] else span[0] + 1)
        axes.set_xlabel("seconds")
        axes.set_ylabel(unit)
        axes.grid(axis="y", color=_INK, alpha=0.15, linewidth=0.6)
        return _svg(figure)


def draw_spans(
    key: str, rows: Sequence[tuple[str, Sequence[tuple[float, float, bool]]]], *, seconds: float
) -> str:
    """Returns an SVG of when each face is there: a row each, pale where it was left alone.

    Args:
        key: unique on the page.
        rows: a name, and stretches as (from, to, left alone) in seconds; at least one.
        seconds: length of the film.
    """
    with _figure(key) as (figure, axes):
        figure.set_size_inches(12.0, 0.7 + 0.24 * len(rows))
        for number, (_, spans) in enumerate(rows):
            for start, end, left_alone in spans:
                axes.broken_barh(
                    [(start, max(end - start, seconds / 400))],
                    (number - 0.34, 0.68),
                    facecolor=_INK if left_alone else AFTER,
                    alpha=0.3 if left_alone else 1.0,
                    linewidth=0,
                )
        axes.set_yticks(range(len(rows)), [name for name, _ in rows])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_xlim(0, seconds if seconds > 0 else 1)
        axes.set_xlabel("seconds")
        return _svg(figure)


@contextmanager
def _figure(key: str) -> Iterator[tuple["Figure", "Axes"]]:
    """Yields an empty figure in our style; Matplotlib's settings are as before afterwards."""
    from matplotlib import rc_context, rcdefaults, rcParams
    from matplotlib.figure import Figure

    style: dict[Any, Any] = {
        "svg.fonttype": "none",
        "svg.hashsalt": key,
        "font.size": 9,
        "axes.edgecolor": _INK,
        "axes.labelcolor": _INK,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "xtick.color": _INK,
        "ytick.color": _INK,
        "text.color": _INK,
    }
    with rc_context():
        rcdefaults()  # a user's own style is not made for this page
        rcParams.update(style)
        figure = Figure(figsize=_INCHES, layout="constrained")
        yield figure, figure.add_subplot()


def _svg(figure: "Figure") -> str:
    """Returns the figure as an SVG element without anything that a page does not need."""
    file = io.StringIO()
    figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    text = file.getvalue()
    text = text[text.index("<svg") :].replace(_INK, "currentColor")
    # Its size, letters and joints are the page's affair; names that no one asks for would repeat.
    for nothing in (
        r"<metadata>.*?</metadata>",
        r"<style.*?</style>",
        r"(?<=<g) id=\"[^\"]*\"",
        r"font-family: [^;]*; ",
    ):
        text = re.sub(nothing, "", text, flags=re.DOTALL)
    text = re.sub(
        r'^<svg [^>]*?viewBox="([^"]*)"[^>]*>',
        r'<svg viewBox="\1" aria-hidden="true" focusable="false">',
        text,
        count=1,
        flags=re.DOTALL,
    )
    return re.sub(r"\s*\n\s*", "\n", text.replace("xlink:href", "href")).strip()
