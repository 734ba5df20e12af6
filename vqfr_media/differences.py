"""What differs between two mappings, such as what decided a result then and what decides it now."""

from collections.abc import Mapping

# Differences that are named; of more, only the number is.
_MOST_NAMED = 3
# Values longer than this (hashes, paths) say nothing to a reader.
_LONGEST_VALUE = 40


def different_keys(one: Mapping[str, object], other: Mapping[str, object]) -> list[str]:
    """Returns the keys, sorted, whose values differ or which only one of the two has."""
    return sorted(
        key
        for key in {*one, *other}
        if key not in one or key not in other or one[key] != other[key]
    )


def describe_changes(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Returns a clause for each value that has changed, at most three; none if none has."""

    def clause(name: str) -> str:
        was, is_now = before.get(name, "not set"), now.get(name, "not set")
        if max(len(before.get(name, "")), len(now.get(name, ""))) > _LONGEST_VALUE:
            return f"another {name}"
        return f"{name} was {was}, is {is_now}"

    names = different_keys(before, now)
    return _limited([clause(name) for name in names])


def describe_mismatch(place: str, ours: Mapping[str, str], theirs: Mapping[str, str]) -> str | None:
    """Says in which values another process differs from the expected ones; None if in none.

    Args:
        place: where `ours` are from, as in "here".
        ours: the expected values, by name.
        theirs: the other's values, by name.
    """
    clauses = [
        f"{name} is {theirs.get(name, 'not there')}, {place} it is {ours.get(name, 'not there')}"
        for name in different_keys(ours, theirs)
    ]
    return "; ".join(_limited(clauses)) or None


def _limited(clauses: list[str]) -> list[str]:
    more = len(clauses) - _MOST_NAMED
    return clauses[:_MOST_NAMED] + [f"and {more} more"] * (more > 0)
