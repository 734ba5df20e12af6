"""Links between frames as numbers of tracks."""

from vqfr_media.values import number_tracks


def test_a_linked_face_keeps_its_number_and_others_begin_tracks() -> None:
    assert number_tracks([None, None], [], new_shot=True, count=0) == [0, 1]
    assert number_tracks([1, None, 0], [0, 1], new_shot=False, count=2) == [1, 2, 0]
    assert number_tracks([], [1, 2, 0], new_shot=False, count=3) == []


def test_a_cut_begins_all_tracks() -> None:
    assert number_tracks([0, 1], [4, 7], new_shot=True, count=9) == [9, 10]
