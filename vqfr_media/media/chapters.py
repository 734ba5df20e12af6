"""Chapters of a source, on the clock of an output that is made of it, or of a part of it."""

from fractions import Fraction
from typing import Any

from av.container import InputContainer

from vqfr_media.media.cut import Cut
from vqfr_media.media.input_container import fraction


def chapters_of(inputs: InputContainer, offset: Fraction, cut: Cut | None) -> list[Any]:
    """Returns the chapters as PyAV sets them; those outside the cut are left out.

    Args:
        inputs: the source.
        offset: seconds that are taken off every time.
        cut: the part that comes out; None for all of it.
    """
    kept = []
    for chapter in inputs.chapters():
        base = fraction(chapter["time_base"])
        if cut is not None:
            if cut.begin is not None:
                chapter["start"] = max(chapter["start"], round(cut.begin / base))
            if cut.end is not None:
                chapter["end"] = min(chapter["end"], round(cut.end / base))
            if chapter["start"] >= chapter["end"]:
                continue
        shift = round(offset / base)
        chapter["start"] -= shift
        chapter["end"] -= shift
        kept.append(chapter)
    return kept
