"""Two mappings compared, and told in words."""

from vqfr_media.differences import describe_changes, describe_mismatch, different_keys


def test_keys_whose_values_differ() -> None:
    assert different_keys({"a": 1, "b": 2, "c": None}, {"a": 1, "b": 3}) == ["b", "c"]
    assert different_keys({}, {}) == []


def test_what_has_changed() -> None:
    assert describe_changes({"a": "1", "b": "2"}, {"a": "1", "c": "3"}) == [
        "b was 2, is not set",
        "c was not set, is 3",
    ]
    assert describe_changes({"source": "f" * 64}, {"source": "e" * 64}) == ["another source"]
    many = dict.fromkeys("abcde", "1")
    assert describe_changes(many, {})[3:] == ["and 2 more"]
    assert describe_changes(many, many) == []


def test_in_what_another_process_differs() -> None:
    ours, theirs = {"processor": "AVX2", "gpu": "x"}, {"processor": "AVX512", "gpu": "x"}
    assert describe_mismatch("on b (1)", ours, theirs) == (
        "processor is AVX512, on b (1) it is AVX2"
    )
    assert describe_mismatch("on b (1)", ours, ours) is None
    assert describe_mismatch("here", {"a": "1"}, {"b": "2", "c": "3", "d": "4"}) == (
        "a is not there, here it is 1; b is 2, here it is not there; "
        "c is 3, here it is not there; and 1 more"
    )
