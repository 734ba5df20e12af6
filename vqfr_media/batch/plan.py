"""Which outputs a batch is to make, and which of them are to be made this time, and why."""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePath

from vqfr_media.batch.files import BECOMES, IMAGES, WRITTEN, Choice, find_media
from vqfr_media.batch.record import REPORT, Record
from vqfr_media.batch.task import Kind, Plan, Task
from vqfr_media.errors import CodecError, InputError, OptionError
from vqfr_media.jobs.identity import differences, flattened
from vqfr_media.media.codecs import can_encode, encoder_options
from vqfr_media.media.image import is_image
from vqfr_media.options import EncodeOptions, RestoreOptions

# What may differ without a result being made again: it is as good, if not the same to the last bit.
_NOT_DECISIVE = (
    "version.", "processor", "gpu", "engine.device", "engine.kind", "engine.batch_size",
    "engine.max_batch",  # what records of earlier versions call the batch size
    "engine.precision", "engine.threads",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Again:
    """What is worked although it was worked before, and what is not believed."""

    redo: bool = False
    """Everything."""
    retry: bool = False
    """What failed, although nothing about it changed."""
    overwrite: bool = False
    """Outputs that are there, and of which no earlier batch knows, may be replaced."""
    trust_times: bool = False
    """A file of the same size and time as before has the same content."""


def plan_folder(
    source: Path,
    folder: Path,
    options: RestoreOptions,
    *,
    choice: Choice | None = None,
    video_suffix: str | None = None,
    image_suffix: str | None = None,
    follow_links: bool = False,
) -> Plan:
    """The videos and images under `source`, each with its output at the same place in `folder`.

    Args:
        source: folder to look into.
        folder: folder for the outputs; may lie in `source`, whose search then leaves it out.
        options: what is done to each file.
        choice: which files are wanted.
        video_suffix: suffix of every video's output; by default its own, where that can be written.
        image_suffix: suffix of every image's output; by default its own.
        follow_links: look into folders behind symbolic links too.

    Raises:
        InputError: no such folder, nothing in it, an option that is for one file, or an output that
            would replace a source.
    """
    _check_options(options, video_suffix, image_suffix)
    if source.exists() and folder.exists() and folder.samefile(source):
        raise InputError(f"{folder}: is the folder of the inputs; name another for the outputs")
    found = find_media(source, choice=choice, avoid=folder, follow_links=follow_links)
    if not found.files:
        left = "".join(f"; left out: {reason}" for reason in found.left_out[:3])
        raise InputError(f"{source}: no video or image to restore in it{left}")
    tasks = tasks_of(
        {path: source / path for path in found.files},
        folder,
        options,
        video_suffix=video_suffix,
        image_suffix=image_suffix,
    )
    return Plan(folder, tasks, tuple(found.left_out), tuple(found.unreadable))


def tasks_of(
    files: Mapping[PurePath, Path],
    folder: Path,
    options: RestoreOptions,
    *,
    video_suffix: str | None,
    image_suffix: str | None,
) -> tuple[Task, ...]:
    """A task for each file, whose output has the same relative path; see `plan_folder`.

    Args:
        files: relative path -> where the file is, or will be once it is looked at.
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


def plan_files(sources: Sequence[Path], folder: Path, options: RestoreOptions) -> Plan:
    """The files `sources`, each with an output of its name in `folder`.

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
    return Plan(folder, tuple(tasks.values()))


def options_for(kind: Kind, options: RestoreOptions) -> RestoreOptions:
    """Those of them that a file of this kind has."""
    if kind == "video":
        return options
    return replace(options, encode=EncodeOptions(image_quality=options.encode.image_quality))


def _check_options(
    options: RestoreOptions, video_suffix: str | None, image_suffix: str | None
) -> None:
    """Refuses what every file would be refused for."""
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
    for suffix, known, kind in ((video_suffix, WRITTEN, "video"), (image_suffix, IMAGES, "image")):
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
    """The suffix of its output."""
    own = path.suffix
    if wanted is not None and wanted.lower() != own.lower():
        return wanted
    return BECOMES.get(own.lower(), own) if wanted is None else own


def _names(wanted: Mapping[PurePath, str | None]) -> dict[PurePath, PurePath]:
    """The outputs' relative paths, no two the same.

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
        if task.output.name == REPORT:  # pragma: no cover - no suffix of ours is .json
            raise InputError(f"{task.output}: is where the report goes")


def output_name(plan: Plan, task: Task) -> str:
    """What a task's record is known by."""
    return task.output.relative_to(plan.folder).as_posix()


def why_work(
    task: Task, earlier: Record | None, identity: Mapping[str, str], again: Again
) -> str | None:
    """Why the source with this content and these settings is to be worked; None if it is not.

    Does not look at the files.

    Args:
        task: the file.
        earlier: what an earlier run said of it.
        identity: what decides its result, with its content as "source".
        again: what is worked all the same.
    """
    if earlier is None or earlier.status == "pending":
        return "new"
    if again.redo:
        return "asked for by --redo"
    if earlier.status == "working":
        return "was interrupted"
    before = _known(earlier)
    if earlier.status == "failed":
        if not before or again.retry:
            return "failed before"
        return "; ".join(differences(before, identity)) or None
    now = _decisive(identity)
    # An option that an earlier version did not have, or a later one has no more, changes nothing as
    # long as nobody sets it.
    usual = {f"options.{n}": str(v) for n, v in flattened(asdict(RestoreOptions())).items()}
    both = before.keys() & now.keys()
    now = {n: v for n, v in now.items() if n in both or v != usual.get(n)}
    then = {n: v for n, v in _decisive(before).items() if n in both or not n.startswith("options.")}
    if other := differences(then, now):
        return "; ".join(other)
    if task.options.strict and any(not reason.is_chosen for reason in earlier.skipped):
        return "strict now, and faces were left alone before"
    return None


def identity_of_task(task: Task, settings: Mapping[str, str], content: str) -> dict[str, str]:
    """What decides a task's result: its content as "source", and what all have in common."""
    identity = {"source": content, **settings}
    if task.kind == "image":
        identity["options.encode.image_quality"] = str(task.options.encode.image_quality)
    return identity


def _known(record: Record) -> dict[str, str]:
    """The identity of a record, empty where it is not known."""
    if not record.identity or record.content is None:
        return {}
    return {"source": record.content.sha256, **record.identity}


def _decisive(identity: Mapping[str, str]) -> dict[str, str]:
    own_weights = "model.weights" in identity
    return {
        name: value
        for name, value in identity.items()
        if not (name.startswith(_NOT_DECISIVE) or (name == "engine.identity" and own_weights))
    }
