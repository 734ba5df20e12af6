"""What a batch says at its end."""

import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vqfr_media.batch.record import BatchReport, Record
    from vqfr_media.batch.task import BatchPlan

_LONGEST_TABLE = 60
_NAME_COLUMNS = 44


def table(report: "BatchReport") -> list[str]:
    """A line for each file that was worked; where they are many, for those that failed."""
    rows = [record for record in report.records if record.status in ("done", "failed")]
    if len(rows) > _LONGEST_TABLE:
        rows = [record for record in rows if record.status == "failed"]
    if not rows:
        return []
    head = (
        f"{'status':7} {padded('file')} {'frames':>7} {'faces':>7} {'left':>6} {'s':>8} {'fps':>6}"
    )
    return [head, *map(row, rows)]


def row(record: "Record") -> str:
    """What became of a file."""
    start = f"{record.status:7} {padded(short(record.output))}"
    if record.status == "failed":
        return f"{start} {printable(record.reason)}"
    fps = "" if record.fps is None else f"{record.fps:.1f}"
    return (
        f"{start} {record.frames:7} {record.restored:7} {sum(record.skipped.values()):6} "
        f"{record.seconds:8.1f} {fps:>6}{' *' if record.warnings else ''}"
    )


def total(plan: "BatchPlan", report: "BatchReport") -> str:
    """The last line."""
    from vqfr_media.batch.record import REPORT_NAME

    count = len(report.records)
    kinds = ", ".join(f"{number} {status}" for status, number in report.counts.items())
    return (
        f"{count} {'file' if count == 1 else 'files'}: {kinds} in {report.seconds:.1f} s; "
        f"{plan.display_name(plan.folder / REPORT_NAME)} tells of each"
    )


def short(name: str) -> str:
    """The name, its middle left out where it is wider than its column."""
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
    """The text with what would move a terminal's cursor, or is no text at all, as escapes."""
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text
    )


def padded(name: str) -> str:
    """The name, filled up to its column."""
    return name + " " * (_NAME_COLUMNS - _columns(name))


def _columns(text: str) -> int:
    """Columns of a terminal; letters of East Asian scripts take two, combining marks none."""
    return sum(
        0 if unicodedata.combining(c) else 1 + (unicodedata.east_asian_width(c) in "WF")
        for c in text
    )
