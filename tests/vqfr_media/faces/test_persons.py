"""Which tracks are one person's: grouping by hand and by scipy, and two people in a real film."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vqfr_media import weights
from vqfr_media.choices import choose_detector
from vqfr_media.errors import InputError, OptionError
from vqfr_media.faces.align import TEMPLATE_512
from vqfr_media.faces.detect import detect
from vqfr_media.faces.persons import (
    SAME_PERSON,
    Descriptor,
    group_persons,
    nearest_person,
    template_to_dlib,
)
from vqfr_media.faces.tracks import Appearance, FaceTrack, Tracks, TracksSource
from vqfr_media.faces.tracks_file import read_tracks, write_tracks
from vqfr_media.frames import Display
from vqfr_media.media.read import open_video
from vqfr_media.media.rgb_clip import picture_of
from vqfr_media.network.dlib_identity import LANDMARKS
from vqfr_media.options import FaceOptions, RestoreOptions
from vqfr_media.prepare import load_detector
from vqfr_media.restoration.persons import (
    describe_tracks,
    find_persons,
    load_describer,
    only_persons,
    with_persons,
)

FACE = FaceOptions(detector="bundled")
OPTIONS = RestoreOptions(face=FACE)


def at(*places: float) -> list[Descriptor]:
    """Descriptors on a line, at these places."""
    return [np.eye(1, 128)[0] * place for place in places]


def test_near_tracks_are_one_person_numbered_in_order_of_appearance() -> None:
    assert group_persons(at(5, 0, 0.3, 5.3, 9), [], threshold=0.5) == [1, 2, 2, 1, 3]
    assert group_persons([], []) == []
    assert group_persons(at(0), []) == [1]
    # On average 0.55 apart: the third is near the second, and not near enough to both.
    assert group_persons(at(0, 0.3, 0.7), [], threshold=0.5) == [1, 1, 2]


def test_tracks_in_one_picture_are_two_persons() -> None:
    assert group_persons(at(0, 0, 0), [(0, 1)], threshold=0.5) in ([1, 2, 1], [1, 2, 2])
    # Nor by way of a third one that is like both.
    assert group_persons(at(0, 0.2, 0.1), [(0, 1)], threshold=9) in ([1, 2, 1], [1, 2, 2])


def test_groups_are_scipys_by_average_linkage() -> None:
    hierarchy = pytest.importorskip("scipy.cluster.hierarchy")
    points = np.random.default_rng(1).normal(0, 1, (40, 128)) * 0.05
    points += np.random.default_rng(2).normal(0, 0.06, (8, 128))[np.arange(40) % 8]
    for threshold in (0.6, 0.9, 1.0):
        theirs = hierarchy.fcluster(
            hierarchy.linkage(points, "average"), threshold, criterion="distance"
        )
        ours = np.array(group_persons(list(points), [], threshold=threshold))
        np.testing.assert_array_equal(ours[:, None] == ours[None], theirs[:, None] == theirs[None])


def test_the_nearest_person_of_a_photograph() -> None:
    persons = {1: at(0, 0.1), 2: at(1)}
    assert nearest_person(at(0.9)[0], persons) == 2
    assert nearest_person(at(0.2)[0], persons) == 1
    assert nearest_person(at(3)[0], persons) is None
    assert nearest_person(at(0)[0], {}) is None


def test_the_template_is_brought_onto_dlibs() -> None:
    matrix = template_to_dlib()
    there = np.array(TEMPLATE_512) @ matrix[:, :2].T + matrix[:, 2]
    np.testing.assert_allclose(there.mean(0), np.mean(LANDMARKS, axis=0))
    assert np.abs(there - LANDMARKS).max() < 6  # of 150: the two templates are not similar


@pytest.fixture(scope="module")
def duo(shared: Path) -> Path:
    return shared / "data/clips/duo_lq.mp4"


@pytest.fixture(scope="module")
def tracks(duo: Path) -> Tracks:
    """One face each of the four tracks in the film's three shots."""
    detector = load_detector(choose_detector(FACE, offline=True), device="cpu", score=FACE.score)
    found: list[FaceTrack] = []
    with open_video(duo) as reader:
        for frame in reader:
            if frame.index in (10, 70, 120):
                seen = detect(frame, detector, proxy=FACE.proxy, score=FACE.score).faces
                for face in sorted(seen, key=lambda face: float(face.box[0])):
                    found.append(FaceTrack(len(found), (Appearance(frame.index, face),)))
            if frame.index == 120:
                break
    source = TracksSource(
        name=duo.name,
        width=640,
        height=360,
        frame_count=160,
        time_base=Fraction(1, 12800),
        frame_rate=Fraction(25),
        display=Display(),
    )
    return Tracks(source, (0, 60, 110), tuple(found))


@pytest.fixture(scope="module")
def grouped(duo: Path, tracks: Tracks) -> Tracks:
    return find_persons(duo, tracks, load_describer())


def test_two_people_in_four_tracks_are_two_persons(duo: Path, grouped: Tracks) -> None:
    assert [track.person for track in grouped.tracks] == [1, 2, 1, 2]
    found = describe_tracks(duo, grouped, load_describer())
    same = [np.linalg.norm(found[0] - found[2]), np.linalg.norm(found[1] - found[3])]
    other = [np.linalg.norm(found[a] - found[b]) for a, b in ((0, 1), (0, 3), (2, 1), (2, 3))]
    assert max(same) < SAME_PERSON - 0.03
    assert min(other) > SAME_PERSON + 0.1
    # The same face twice in one picture is two persons.
    assert [t.person for t in with_persons(grouped, {2: found[2], 3: found[2]}).tracks] == [
        None, None, 1, 2,
    ]  # fmt: skip


def test_a_photograph_or_a_number_chooses_persons(
    duo: Path, grouped: Tracks, tmp_path: Path
) -> None:
    def enabled(tracks: Tracks) -> list[bool]:
        return [track.enabled for track in tracks.tracks]

    assert enabled(only_persons(duo, grouped, wanted=["2"])) == [False, True, False, True]
    assert enabled(only_persons(duo, grouped, unwanted=["2"])) == [True, False, True, False]
    assert enabled(only_persons(duo, grouped, wanted=["1", "2"])) == [True] * 4
    with pytest.raises(OptionError, match=r"there is no person 3 in duo_lq[.]mp4, which has 2"):
        only_persons(duo, grouped, wanted=["3"])

    photo = tmp_path / "photo.png"
    with open_video(duo) as reader:
        frame = next(frame for frame in reader if frame.index == 65)
    Image.fromarray(picture_of(frame)).save(photo)
    chosen = only_persons(duo, grouped, wanted=[str(photo)], options=OPTIONS)
    assert enabled(chosen) == [False, True, False, True]
    stranger = Path(weights.__file__).parent / "demo" / "astronaut.jpg"
    with pytest.raises(InputError, match="nobody in the film looks like it"):
        only_persons(duo, grouped, wanted=[str(stranger)], options=OPTIONS)
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(photo)
    with pytest.raises(InputError, match="no face was found in it"):
        only_persons(duo, grouped, wanted=[str(photo)], options=OPTIONS)
    with pytest.raises(InputError, match="is no photograph"):
        only_persons(duo, grouped, wanted=[str(duo)], options=OPTIONS)


def test_the_tracks_file_has_settings_by_person(grouped: Tracks, tmp_path: Path) -> None:
    path = tmp_path / "tracks.json"
    write_tracks(path, grouped)
    assert [track.person for track in read_tracks(path).tracks] == [1, 2, 1, 2]
    text = path.read_text()
    all_of_two = '{"id": 2, "enabled": true, "fidelity": null, "strength": null}'
    assert all_of_two in text
    one = '{"id": 3, "person": 2, "enabled": true, "fidelity": null, "strength": null'
    text = text.replace(one, one.replace('"strength": null', '"strength": 1.0'))
    path.write_text(text.replace(all_of_two, all_of_two.replace('th": null', 'th": 0.5')))
    assert [track.strength for track in read_tracks(path).tracks] == [None, 0.5, None, 1.0]
    path.write_text(text.replace(all_of_two, all_of_two.replace("true", "false")))
    assert [track.enabled for track in read_tracks(path).tracks] == [True, False, True, False]
    path.write_text(text.replace(all_of_two, all_of_two.replace("2", "1", 1)))
    with pytest.raises(InputError, match=r"persons\[1\]\.id 1 is another person's already"):
        read_tracks(path)
    path.write_text(text.replace('"person": 2', '"person": 0'))
    with pytest.raises(InputError, match=r"tracks\[1\]\.person must be at least 1"):
        read_tracks(path)
    write_tracks(
        path, replace(grouped, tracks=tuple(replace(t, person=None) for t in grouped.tracks))
    )
    assert [track.person for track in read_tracks(path).tracks] == [None] * 4
