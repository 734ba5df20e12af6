"""Values that are kept for as long as the things they are of."""

from functools import partial

import pytest

from vqfr_media.weak_memo import WeakMemo


class Thing:
    pass


def test_a_value_is_computed_once_and_forgotten_with_its_thing() -> None:
    memo: WeakMemo[Thing, bool] = WeakMemo()
    one, other = Thing(), Thing()
    asked: list[Thing] = []

    def value(thing: Thing) -> bool:
        asked.append(thing)
        return False

    for thing in (one, other, one, other, one):
        assert memo.get(thing, partial(value, thing)) is False
    assert asked == [one, other]
    assert len(memo) == 2
    asked.clear()
    del one, thing
    assert len(memo) == 1


def test_an_exception_is_raised_and_not_kept() -> None:
    memo: WeakMemo[Thing, int] = WeakMemo()
    thing = Thing()
    with pytest.raises(ZeroDivisionError):
        memo.get(thing, lambda: 1 // 0)
    assert memo.get(thing, lambda: 7) == 7
