"""Which options of a command `--help` shows first, and how the others are grouped."""

from dataclasses import dataclass


@dataclass(frozen=True)
class OptionGroup:
    """Options that serve one purpose."""

    title: str
    """The purpose, in a few words."""
    names: tuple[str, ...]
    """Of fields of the command or of the options in it; those it does not have are passed over."""
    is_expert: bool = False
    """Whether only `--help-all` shows them."""


@dataclass(frozen=True)
class CommandHelp:
    """What `--help` says of a command besides its options."""

    usage: str
    """The words after `vqfr-media`."""
    examples: tuple[str, ...]
    """Whole command lines."""
    groups: tuple[OptionGroup, ...]
    """In the order in which they are shown; what is in none of them comes last, as an expert's."""


_FACES = OptionGroup("which faces", ("faces", "min_face", "max_face", "person", "not_person"))
_FINDING = OptionGroup(
    "finding faces",
    (
        "score",
        "proxy",
        "detector",
        "detector_weights",
        "search_interval",
        "max_gap",
        "min_track",
        "strict",
    ),
    is_expert=True,
)
_RESTORATION = (
    OptionGroup(
        "how strong",
        ("strength", "grain", "detail", "keep_occluders", "model", "fidelity", "upscale"),
    ),
    OptionGroup("the file that is written", ("quality", "codec", "image_quality")),
    OptionGroup(
        "more about the file that is written",
        ("container", "preset", "drop_unsupported_streams"),
        is_expert=True,
    ),
    _FINDING,
    OptionGroup(
        "steadiness from frame to frame (0 switches one off)",
        ("landmarks_radius", "latent_radius", "pixel_radius", "choice_radius"),
        is_expert=True,
    ),
    OptionGroup(
        "the network and what runs it",
        ("weights", "backend", "precision", "engine", "device", "batch_size", "offline"),
        is_expert=True,
    ),
    OptionGroup(
        "long, damaged and interlaced films",
        ("segment_seconds", "damaged", "fields"),
        is_expert=True,
    ),
)

COMMANDS = {
    "restore": CommandHelp(
        "restore SOURCES... -o OUTPUT [options]",
        (
            "vqfr-media restore holiday.mp4 -o restored.mp4",
            "vqfr-media restore tape.mkv -o part.mkv --start 1:02:10 --duration 5 --faces largest",
        ),
        (
            OptionGroup("what is read and written", ("sources", "output", "report", "quiet")),
            OptionGroup("part of a film", ("start", "end", "duration")),
            OptionGroup(_FACES.title, (*_FACES.names, "tracks")),
            *_RESTORATION,
        ),
    ),
    "batch": CommandHelp(
        "batch IN_DIR OUT_DIR [options]",
        (
            "vqfr-media batch footage/ restored/",
            "vqfr-media batch footage/ restored/ --include '*.mp4' --dry-run",
        ),
        (
            OptionGroup("what is read and written", ("source", "output", "report", "quiet")),
            OptionGroup("which files", ("include", "exclude", "follow_links", "dry_run")),
            OptionGroup("how they are named", ("video_suffix", "image_suffix")),
            OptionGroup("what is done again", ("redo", "retry", "overwrite", "trust_times")),
            OptionGroup(_FACES.title, (*_FACES.names, "tracks")),
            OptionGroup("part of each film", ("start", "end", "duration"), is_expert=True),
            OptionGroup(
                "many GPUs or machines",
                ("ray", "ray_workers", "cpus_per_worker", "gpus_per_worker"),
                is_expert=True,
            ),
            *_RESTORATION,
        ),
    ),
    "preview": CommandHelp(
        "preview SOURCE [-o PREVIEW.mp4] [options]",
        (
            "vqfr-media preview film.mkv",
            "vqfr-media preview film.mkv -o try.mp4 --seconds 3 --strength 0.7",
        ),
        (
            OptionGroup(
                "what is read and written", ("source", "output", "seconds", "stretches", "quiet")
            ),
            OptionGroup("in which part of the film", ("start", "end", "duration")),
            _FACES,
            *_RESTORATION,
        ),
    ),
    "studio": CommandHelp(
        "studio SOURCE [-o TRACKS.json] [options]",
        (
            "vqfr-media studio film.mkv",
            "vqfr-media studio film.mkv --start 10:00 --duration 30 --no-browser --port 8080",
        ),
        (
            OptionGroup("what is read and written", ("source", "output", "quiet")),
            OptionGroup("the page", ("no_browser", "port")),
            OptionGroup("part of a film", ("start", "end", "duration")),
            OptionGroup(_FACES.title, (*_FACES.names, "tracks")),
            *_RESTORATION,
        ),
    ),
    "tracks": CommandHelp(
        "tracks SOURCE [-o TRACKS.json] [--preview FACES.mp4] [options]",
        (
            "vqfr-media tracks film.mp4 -o tracks.json",
            "vqfr-media tracks film.mp4 --preview faces.png",
        ),
        (
            OptionGroup(
                "what is read and written", ("source", "output", "preview", "tracks", "quiet")
            ),
            OptionGroup("part of a film", ("start", "end", "duration")),
            OptionGroup(_FINDING.title, (*_FINDING.names, "device", "offline"), is_expert=True),
        ),
    ),
    "compare": CommandHelp(
        "compare BEFORE AFTER -o OUTPUT [options]",
        (
            "vqfr-media compare film.mp4 restored.mp4 -o both.mp4",
            "vqfr-media compare film.mp4 restored.mp4 -o faces.png --mode faces",
        ),
        (
            OptionGroup("what is read and written", ("before", "after", "output", "quiet")),
            OptionGroup(
                "the picture",
                ("mode", "labels", "divider", "sweep_seconds", "moments", "rows", "tracks"),
            ),
            OptionGroup(_FINDING.title, (*_FINDING.names, "device", "offline"), is_expert=True),
        ),
    ),
    "report": CommandHelp(
        "report SOURCE RESTORED -o PAGE.html [options]",
        (
            "vqfr-media report film.mp4 restored.mp4 -o report.html",
            "vqfr-media report film.mp4 restored.mp4 -o report.html --restore-report report.json",
        ),
        (
            OptionGroup(
                "what is read and written",
                ("source", "restored", "output", "restore_report", "tracks", "json", "quiet"),
            ),
            OptionGroup("the page", ("max_tracks",)),
            OptionGroup(_FINDING.title, (*_FINDING.names, "device", "offline"), is_expert=True),
        ),
    ),
}  # fmt: skip
