"""Which container holds what of which source: 40 small files written into others, and compared.

    python -m benchmarks.formats

Made by FFmpeg's libraries alone (PyAV), written by this package with its default options, and read
back by FFmpeg's libraries alone: packets of sound, subtitles and data are compared byte for byte,
chapters and attached files counted, and times compared as fractions of a second. The table goes to
docs/formats.md.
"""

import tempfile
from collections import Counter
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from tests.clips import packets, small_jpeg, write_clip
from vqfr_media.errors import VqfrMediaError
from vqfr_media.media.read import open_video
from vqfr_media.media.write import open_writer, try_writer
from vqfr_media.options import EncodeOptions

PAGE = Path(__file__).parents[1] / "docs" / "formats.md"
OUTPUTS = (".mp4", ".mov", ".mkv", ".ts", ".webm")
CHAPTERS = ((0, 100, "One"), (100, 240, "Two"))
# What is in each source, beside its name: arguments of `write_clip`.
SOURCES: dict[str, dict[str, Any]] = {
    "H.264, AAC, SubRip (.mkv)": {"codec": "libx264", "audio": "aac", "subtitles": "subrip"},
    "H.264, AAC, chapters, cover (.mp4)": {
        "codec": "libx264", "audio": "aac", "chapters": CHAPTERS, "cover": small_jpeg(),
    },
    "H.264, AAC, timed text (.mp4)": {
        "codec": "libx264", "audio": "aac", "subtitles": "mov_text",
    },
    "H.264, AAC, timecode (.mov)": {
        "codec": "libx264", "audio": "aac", "metadata": {"timecode": "01:00:00:00"},
    },
    "ProRes 4:2:2 10 bits, PCM (.mov)": {
        "codec": "prores_ks", "pix_fmt": "yuv422p10le", "audio": "pcm_s16le",
    },
    "FFV1, FLAC, a font (.mkv)": {
        "codec": "ffv1", "audio": "flac", "attachments": [("a.ttf", "font/ttf", b"font")],
    },
    "MPEG-2, MP2 (.ts)": {"codec": "mpeg2video", "audio": "mp2"},
    "VP9, Opus (.webm)": {"codec": "libvpx-vp9", "audio": "libopus"},
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one source in one container."""

    kept: bool
    """Whether a file was written."""
    said: tuple[str, ...]
    """The writer's notes, or why it refuses."""
    differences: tuple[str, ...] = ()
    """What FFmpeg reads otherwise than in the source."""

    def cell(self, notes: list[str]) -> str:
        """Returns the table's cell; new notes are added to `notes`, and named by number."""
        numbers = []
        for note in (*self.said, *self.differences):
            if note not in notes:
                notes.append(note)
            numbers.append(str(notes.index(note) + 1))
        word = ("changed" if self.differences else "kept") if self.kept else "refused"
        return f"{word} {', '.join(numbers)}".strip()


def make_source(folder: Path, name: str) -> Path:
    """Writes the source that is called `name` in the table."""
    suffix = name[name.index("(") + 1 : -1]
    path = folder / f"{list(SOURCES).index(name)}{suffix}"
    write_clip(path, frames=10, **SOURCES[name])
    return path


def outcome(source: Path, output: Path) -> Outcome:
    """Writes `source` into `output` with the default options, and compares."""
    options = EncodeOptions()
    try:
        with open_video(source) as reader:
            try_writer(output, source, reader.info, options)
            with open_writer(output, source, reader.info, options) as writer:
                for frame in reader:
                    writer.write(frame)
    except VqfrMediaError as error:
        return Outcome(kept=False, said=(_without_paths(str(error), source, output),))
    said = tuple(_without_paths(text, source, output) for text in writer.warnings)
    return Outcome(kept=True, said=said, differences=tuple(_differences(source, output)))


def _without_paths(text: str, *paths: Path) -> str:
    for path in paths:
        text = text.replace(f"{path}: ", "")
    return text


def _differences(source: Path, output: Path) -> list[str]:
    found = []
    for kind in ("audio", "subtitle", "data"):
        # MP4 shows its chapters as a stream of text too, which has no packets for anyone.
        before, after = (
            [stream for stream in packets(path, kind) if stream or kind != "data"]
            for path in (source, output)
        )
        contents = [[content for content, _ in stream] for stream in before]
        if contents != [[content for content, _ in stream] for stream in after]:
            found.append(f"{kind}: other packets than in the source")
            continue
        step = Fraction(1, 500)
        for stream, other in zip(before, after, strict=True):
            begin = (stream[0][1] or 0) - (other[0][1] or 0)
            for (_, a), (_, b) in zip(stream, other, strict=True):
                if a is not None and b is not None and abs(a - b - begin) > step:
                    found.append(f"{kind}: times moved by more than {float(step):g} s")
                    break
    with av.open(str(source)) as one, av.open(str(output)) as other_file:
        if len(one.chapters()) != len(other_file.chapters()):
            found.append(f"{len(other_file.chapters())} of {len(one.chapters())} chapters")
        numbers = [_attached(container) for container in (one, other_file)]
        if numbers[0] != numbers[1]:
            found.append(f"{numbers[1]} of {numbers[0]} covers and attached files")
    return found


def _attached(container: av.container.InputContainer) -> int:
    return sum(
        stream.type == "attachment" or bool(stream.disposition & av.stream.Disposition.attached_pic)
        for stream in container.streams
    )


def page(table: dict[str, dict[str, Outcome]]) -> str:
    """Returns the guide with the table."""
    notes: list[str] = []
    rows = [
        f"| {name} | " + " | ".join(row[suffix].cell(notes) for suffix in OUTPUTS) + " |"
        for name, row in table.items()
    ]
    counts = Counter(one.cell([]).split()[0] for row in table.values() for one in row.values())
    counted = ", ".join(f"{number} {word}" for word, number in sorted(counts.items()))
    return "\n".join(
        [
            "# Formats",
            "",
            "What `restore` writes with its default options, by `python -m benchmarks.formats`:"
            f" {sum(counts.values())} combinations, {counted}.",
            "*Kept*: FFmpeg reads the same packets of sound, subtitles and data, and as many"
            " chapters and attached files. *Changed*: it does not.",
            "*Refused*: an error before the work. The numbers are what the program says.",
            "",
            "| source | " + " | ".join(f"`{suffix}`" for suffix in OUTPUTS) + " |",
            "|---|" + "---|" * len(OUTPUTS),
            *rows,
            "",
            *(f"{number}. {note}" for number, note in enumerate(notes, 1)),
            "",
        ]
    )


def main() -> None:
    """Writes the guide."""
    with tempfile.TemporaryDirectory() as folder:
        table = {}
        for name in SOURCES:
            source = make_source(Path(folder), name)
            table[name] = {
                suffix: outcome(source, Path(folder) / f"out{suffix}") for suffix in OUTPUTS
            }
    PAGE.write_text(page(table))
    print(f"{PAGE}: written")


if __name__ == "__main__":
    main()
