"""The public names are a promise: what `vqfr_media` lists is what it has, and nothing else."""

import inspect
import types

import vqfr_media
from vqfr_media import errors


def test_the_list_is_sorted() -> None:
    assert sorted(vqfr_media.__all__) == list(vqfr_media.__all__)


def test_the_list_is_what_we_promise() -> None:
    options = {
        f"{part}Options" for part in ("Restore", "Model", "Face", "Temporal", "Blend", "Encode")
    }
    ours = options | {"Summary", "TimeRange", "load_engine", "restore_image", "restore_video"}
    assert set(vqfr_media.__all__) == ours | set(errors.__all__)


def test_every_name_in_the_list_is_there() -> None:
    for name in vqfr_media.__all__:
        assert getattr(vqfr_media, name).__name__ == name


def test_nothing_else_is_exported() -> None:
    found = {
        name
        for name, value in vars(vqfr_media).items()
        if not name.startswith("_")
        and not isinstance(value, types.ModuleType)
        and name != "TYPE_CHECKING"
    }
    assert found <= set(vqfr_media.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    assert not hasattr(vqfr_media, "no_such_name")


def test_every_error_of_ours_is_listed() -> None:
    raised = {
        name
        for name, value in vars(errors).items()
        if inspect.isclass(value) and issubclass(value, errors.VqfrMediaError)
    }
    assert raised == set(errors.__all__)
