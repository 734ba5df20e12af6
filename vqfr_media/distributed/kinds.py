"""Whether workers are of one kind, so that it does not matter which of them does what."""

from collections.abc import Mapping, Sequence

from vqfr_media.distributed.worker import Introduction
from vqfr_media.errors import (
    BackendError,
    EngineError,
    MachineError,
    SkippedFaceError,
    VqfrMediaError,
)


def as_ours(error: BaseException) -> BaseException:
    """What went wrong in a worker, so that the command line can tell it."""
    if isinstance(error, VqfrMediaError):
        return error
    if isinstance(error, ImportError):
        return BackendError(f"a worker lacks {error}; install the same packages on every machine")
    return error


def is_the_machines(error: BaseException) -> bool:
    """Whether another machine may do better: a GPU that is out of order fails every file."""
    return isinstance(error, EngineError | MachineError) and not isinstance(error, SkippedFaceError)


def most_common(introductions: Sequence[Introduction]) -> Introduction:
    """One of the kind that most are of; of several, always the same."""

    def rank(one: Introduction) -> tuple[int, list[tuple[str, str]]]:
        count = sum(other.settings == one.settings for other in introductions)
        return -count, sorted(one.settings.items())

    return min(introductions, key=rank)


def unlike(where: str, ours: Mapping[str, str], theirs: Mapping[str, str]) -> str | None:
    """In words, in what two differ; None where they do not."""
    names = sorted(n for n in {*ours, *theirs} if ours.get(n) != theirs.get(n))
    if not names:
        return None
    said = [
        f"{name} is {theirs.get(name, 'not there')}, {where} it is {ours.get(name, 'not there')}"
        for name in names[:3]
    ]
    return "; ".join(said + [f"and {len(names) - 3} more"] * (len(names) > 3))
