"""The table that a batch prints at its end."""

import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vqfr_media.batch.record import BatchReport, Record
    from vqfr_media.batch.task import BatchPlan

_LONGEST_TABLE = 60
_NAME_COLUMNS = 44


def table(report: "BatchReport") -> list[str]:
    """Returns a line for each file that was restored or failed; if they are many, only failed."""
    rows = [record for record in report.records if record.status in ("done", "failed")]
    if len(rows) > _LONGEST_TABLE:
        rows = [record for record in rows if record.status == "failed"]
    if not rows:
        return []
    head = (
        f"{'status':7} {padded('file')} {'frames':>7} {'faces':>7} {'left':>6} {'s':>8} {'fps':>6}"
    )
    legend = ["* its warnings are in the report"] if any(map(_is_starred, rows)) else []
    return [head, *map(row, rows), *legend]


def row(record: "Record") -> str:
    """Returns the line that says what became of a file."""
    start = f"{record.status:7} {padded(short(record.output))}"
    if record.status == "failed":
        return f"{start} {printable(record.reason)}"
    fps = "" if record.fps is None else f"{record.fps:.1f}"
    figures = (
        f"{start} {record.frames:7} {record.restored:7} {sum(record.skipped.values()):6} "
        f"{record.seconds:8.1f} {fps:>6}"
    )
    reasons = ", ".join(f"{number} {reason}" for reason, number in record.skipped.items())
    told = [*(["*"] if _is_starred(record) else []), *([f"left: {reasons}"] if reasons else [])]
    return "  ".join([figures, *told])


def _is_starred(record: "Record") -> bool:
    return record.status == "done" and bool(record.warnings)


def total(plan: "BatchPlan", report: "BatchReport") -> str:
    """Returns the last line, which counts the files by status."""
    from vqfr_media.batch.record import REPORT_NAME
    from vqfr_media.summary import counted

    kinds = ", ".join(f"{number} {status}" for status, number in report.counts.items())
    return (
        f"{counted(len(report.records), 'file')}: {kinds} in {report.seconds:.1f} s; "
        f"{plan.display_name(plan.folder / REPORT_NAME)} tells of each"
    )


def short(name: str) -> str:
    """Returns the name, without its middle if it is wider than its column."""
    name = printable(name)
    if _columns(name) <= _NAME_COLUMNS:
        return name
    half = _NAME_COLUMNS // 2
    head, tail = name, name
    while _columns(head) > half - 1:
        head = head[:-1]
    while _columns(tail) > half:
        tail = tail[1:]
    return f"{head}…{tail}"


def printable(text: str) -> str:
    """Returns the text, with escapes for what would move a terminal's cursor or is no text."""
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text
    )


def padded(name: str) -> str:
    """Returns the name, padded to the width of its column."""
    return name + " " * (_NAME_COLUMNS - _columns(name))


def _columns(text: str) -> int:
    """Counts a terminal's columns; East Asian letters take two, combining marks none."""
    return sum(
        0 if unicodedata.combining(c) else 1 + (unicodedata.east_asian_width(c) in "WF")
        for c in text
    )
