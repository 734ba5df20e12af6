"""The tasks of a batch: which output each input becomes, and what is refused beforehand."""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePath

from vqfr_media.batch.find_media import (
    REPLACED_SUFFIXES,
    WRITABLE_IMAGES,
    WRITABLE_VIDEOS,
    FileFilter,
    find_media,
)
from vqfr_media.batch.record import REPORT_NAME
from vqfr_media.batch.task import BatchPlan, Kind, Task
from vqfr_media.errors import CodecError, InputError, OptionError
from vqfr_media.media.codecs import can_encode, encoder_options
from vqfr_media.media.heif import READ_ONLY
from vqfr_media.media.image import is_image
from vqfr_media.options import EncodeOptions, RestoreOptions


def plan_folder(
    source: Path,
    folder: Path,
    options: RestoreOptions,
    *,
    file_filter: FileFilter | None = None,
    video_suffix: str | None = None,
    image_suffix: str | None = None,
    follow_links: bool = False,
) -> BatchPlan:
    """Plans the videos and images under `source`, each with the same relative path in `folder`.

    Args:
        source: folder to search.
        folder: folder for the outputs; if it lies in `source`, it is not searched.
        options: what is done to each file.
        file_filter: which files are wanted.
        video_suffix: suffix of every video's output; by default its own, where that can be written.
        image_suffix: suffix of every image's output; by default its own.
        follow_links: search folders behind symbolic links too.

    Raises:
        InputError: no such folder, nothing in it, an option that is for one file, or an output that
            would replace a source.
    """
    _check_options(options, video_suffix, image_suffix)
    if source.exists() and folder.exists() and folder.samefile(source):
        raise InputError(f"{folder}: is the folder of the inputs; name another for the outputs")
    found = find_media(source, file_filter=file_filter, avoid=folder, follow_links=follow_links)
    if not found.files:
        left = "".join(f"; left out: {reason}" for reason in found.left_out[:3])
        raise InputError(f"{source}: no video or image to restore in it{left}")
    tasks = make_tasks(
        {path: source / path for path in found.files},
        folder,
        options,
        video_suffix=video_suffix,
        image_suffix=image_suffix,
    )
    return BatchPlan(folder, tasks, tuple(found.left_out), tuple(found.unreadable))


def make_tasks(
    files: Mapping[PurePath, Path],
    folder: Path,
    options: RestoreOptions,
    *,
    video_suffix: str | None,
    image_suffix: str | None,
) -> tuple[Task, ...]:
    """Makes a task for each file, whose output has the same relative path; see `plan_folder`.

    Args:
        files: relative path -> where the file is, or will be once it has been fetched.
        folder: folder for the outputs.
        options: what is done to each file.
        video_suffix: suffix of every video's output, or None.
        image_suffix: suffix of every image's output, or None.

    Raises:
        InputError: two outputs would have one name, or one would replace a source.
        OptionError, CodecError: an option is for one file, or does not fit.
    """
    _check_options(options, video_suffix, image_suffix)
    kinds = {path: _kind(place) for path, place in files.items()}
    wanted = {"video": video_suffix, "image": image_suffix}
    names = _names({path: wanted[kinds[path]] for path in files})
    tasks = tuple(
        Task(files[path], folder / name, options_for(kinds[path], options), kinds[path])
        for path, name in names.items()
    )
    _refuse_to_replace(tasks)
    return tasks


def plan_files(sources: Sequence[Path], folder: Path, options: RestoreOptions) -> BatchPlan:
    """Plans the files `sources`, each with an output of its name in `folder`.

    Raises:
        InputError: a source is a folder, two have one name, an option is for one file, or an output
            would replace a source.
    """
    _check_options(options, None, None)
    for path in sources:
        if "\0" in str(path):
            raise InputError(f"{str(path)!r}: a file name cannot hold a NUL byte")
        if path.is_dir():
            raise InputError(f"{path}: is a folder; give it to `vqfr-media batch`")
    once: dict[str, Path] = {}
    for path in sources:
        once.setdefault(os.path.realpath(path), path)
    tasks: dict[str, Task] = {}
    for path in once.values():
        kind = _kind(path)
        name = PurePath(path.name).with_suffix(_suffix(path, None))
        known = os.path.normcase(name)
        if known in tasks:
            raise InputError(
                f"{tasks[known].source} and {path} would both become {folder / name}; give them "
                "one after the other, or give the folder above them to `vqfr-media batch`"
            )
        tasks[known] = Task(path, folder / name, options_for(kind, options), kind)
    _refuse_to_replace(tuple(tasks.values()))
    return BatchPlan(folder, tuple(tasks.values()))


def options_for(kind: Kind, options: RestoreOptions) -> RestoreOptions:
    """Returns the options without what a file of this kind does not have."""
    if kind == "video":
        return options
    return replace(options, encode=EncodeOptions(image_quality=options.encode.image_quality))


def _check_options(
    options: RestoreOptions, video_suffix: str | None, image_suffix: str | None
) -> None:
    """Refuses what would make every file fail."""
    encode = options.encode
    if options.tracks is not None:
        raise OptionError(
            f"the tracks in {options.tracks} are those of one video; restore that one by itself"
        )
    if encode.container is not None:
        raise OptionError(
            f"container {encode.container!r} would not fit the outputs' names; use "
            "`vqfr-media batch --video-suffix .mkv`"
        )
    for suffix, known, kind in (
        (video_suffix, WRITABLE_VIDEOS, "video"),
        (image_suffix, WRITABLE_IMAGES, "image"),
    ):
        if suffix is not None and suffix.lower() not in known:
            raise OptionError(f"{kind}_suffix must be one of {', '.join(known)}, got {suffix!r}")
    if encode.codec != "auto":
        if not can_encode(encode.codec):
            raise CodecError(
                f"there is no video encoder {encode.codec!r} in this build of PyAV; leave it out"
            )
        encoder_options(encode.codec, encode)


def _kind(path: Path) -> Kind:
    return "image" if is_image(path) else "video"


def _suffix(path: PurePath, wanted: str | None) -> str:
    """Returns the suffix of the output of `path`."""
    own = path.suffix
    if wanted is not None and wanted.lower() != own.lower():
        return wanted
    return {**REPLACED_SUFFIXES, **READ_ONLY}.get(own.lower(), own) if wanted is None else own


def _names(wanted: Mapping[PurePath, str | None]) -> dict[PurePath, PurePath]:
    """Returns the outputs' relative paths by those of the inputs, no two the same.

    Where a changed suffix makes "a.wmv" and "a.avi" one name, they become "a.wmv.mkv" and
    "a.avi.mkv"; a file whose suffix is not changed keeps its name.
    """
    names = {path: path.with_suffix(_suffix(path, suffix)) for path, suffix in wanted.items()}
    count = Counter(os.path.normcase(name) for name in names.values())
    for path, name in names.items():
        if name != path and count[os.path.normcase(name)] > 1:
            names[path] = path.with_name(path.name + name.suffix)
    seen: dict[str, PurePath] = {}
    for path, name in names.items():
        other = seen.setdefault(os.path.normcase(name), path)
        if other != path:
            raise InputError(f"{other} and {path} would both become {name}; rename one of them")
    return names


def _refuse_to_replace(tasks: Sequence[Task]) -> None:
    sources = {os.path.realpath(task.source): task.source for task in tasks}
    for task in tasks:
        if (source := sources.get(os.path.realpath(task.output))) is not None:
            raise InputError(
                f"{task.output}: is the input {source} itself; choose another folder for the "
                "outputs"
            )
        if task.output.name == REPORT_NAME:  # pragma: no cover - no suffix of ours is .json
            raise InputError(f"{task.output}: is where the report goes")


def output_name(plan: BatchPlan, task: Task) -> str:
    """Returns the name by which a task's record is known: its output's path in the folder."""
    return task.output.relative_to(plan.folder).as_posix()
