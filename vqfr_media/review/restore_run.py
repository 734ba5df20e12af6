"""What `restore --report` wrote of a restoration: its options, its versions, what it left alone."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from vqfr_media.errors import InputError, OptionError
from vqfr_media.jobs.identity import flattened
from vqfr_media.options import FaceOptions

# What ran, by the keys of the report: a name for people, the value, and why it is this one.
_FACTS = (
    ("Source", "source", None),
    ("Result", "output", None),
    ("Model", "model", "why"),
    ("Device", "device", None),
    ("Backend", "backend", "backend_why"),
    ("Arithmetic", "precision", None),
    ("Engine", "engine", None),
    ("Its identity", "engine_identity", None),
    ("Detector", "detector", "detector_why"),
    ("Frames", "frames", None),
    ("Seconds of work", "seconds", None),
    ("Faces restored", "restored", None),
)


@dataclass(frozen=True, kw_only=True)
class RestoreRun:
    """A restoration in its own words."""

    detector: str
    """What found the faces; empty where the file does not say."""
    facts: dict[str, str]
    """What ran: model, device, backend, detector and why, by name."""
    options: dict[str, str]
    """Every option by its name, such as `face.min_face`; empty where the file does not say."""
    versions: dict[str, str]
    """Versions of the libraries that ran; empty where the file does not say."""
    skipped: dict[str, int]
    """Faces left alone, over all frames, by reason, as the restoration counted them."""
    warnings: tuple[str, ...]
    """What it could not keep exactly."""
    face: FaceOptions | None
    """How faces were found and chosen; None where the file does not say."""
    search_interval: float | None
    """Seconds from one search of whole pictures to the next; None where the file does not say."""
    max_gap: float | None
    """Longest gap in seconds that was filled in; None where the file does not say."""
    min_track: float | None
    """Shortest time in seconds for which a face was seen; None where the file does not say."""
    tracks: Path | None
    """File of tracks that it was given."""


def read_restore_run(path: Path) -> RestoreRun:
    """Reads a file that `restore --report` wrote.

    Raises:
        InputError: there is no such file, or it is no report of a restoration.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(
            f"{path}: there is no such file; make it with `vqfr-media restore ... --report FILE`"
        ) from error
    except (OSError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: cannot be read as JSON: {error}") from error
    if not isinstance(values, dict) or not {"model", "restored", "skipped"} <= values.keys():
        raise InputError(f"{path}: is no report of a restoration; `restore --report` writes them")
    options = values.get("options") or {}
    if not isinstance(options, dict) or not isinstance(values["skipped"], dict):
        raise InputError(f"{path}: is no report of a restoration: its options or skipped are wrong")
    given = options.get("tracks")
    return RestoreRun(
        detector=str(values.get("detector", "")),
        facts=_facts(values),
        options={name: _text(value) for name, value in flattened(options).items()},
        versions={name: str(value) for name, value in (values.get("versions") or {}).items()},
        skipped={str(reason): int(count) for reason, count in values["skipped"].items()},
        warnings=tuple(str(warning) for warning in values.get("warnings") or ()),
        face=_face_options(options.get("face"), path),
        search_interval=_once_zero("search_interval", options.get("temporal"), path),
        max_gap=_seconds("max_gap", options.get("temporal"), path),
        min_track=_once_zero("min_track", options.get("temporal"), path),
        tracks=Path(given) if isinstance(given, str) else None,
    )


def _facts(values: Mapping[str, Any]) -> dict[str, str]:
    facts = {}
    for name, key, why in _FACTS:
        value = values.get(key)
        if value in (None, ""):
            continue
        text = f"{value:.1f}" if isinstance(value, float) else str(value)
        facts[name] = f"{text} ({values[why]})" if why and values.get(why) else text
    return facts


def _face_options(values: object, path: Path) -> FaceOptions | None:
    if not isinstance(values, Mapping):
        return None
    known = {field.name for field in fields(FaceOptions)}
    given: dict[str, Any] = {name: value for name, value in values.items() if name in known}
    if given.get("detector_weights") is not None:
        given["detector_weights"] = Path(str(given["detector_weights"]))
    try:
        return FaceOptions(**given)
    except (OptionError, TypeError) as error:
        raise InputError(f"{path}: options.face: {error}") from error


def _once_zero(name: str, values: object, path: Path) -> float | None:
    """Returns an option that there was not always: every frame was searched, every face kept."""
    if isinstance(values, Mapping) and name not in values:
        return 0.0
    return _seconds(name, values, path)


def _seconds(name: str, values: object, path: Path) -> float | None:
    if not isinstance(values, Mapping) or name not in values:
        return None
    given = values[name]
    if isinstance(given, bool) or not isinstance(given, int | float):
        raise InputError(f"{path}: options.temporal.{name} must be a number, got {given!r}")
    return float(given)


def _text(value: object) -> str:
    return "–" if value is None else str(value)
