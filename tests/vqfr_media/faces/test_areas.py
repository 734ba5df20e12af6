import numpy as np
import pytest

from vqfr_media.faces.areas import Area, areas_around
from vqfr_media.values import Face

ROWS, COLUMNS = 360, 640


def face(x: float, y: float, size: float = 40) -> Face:
    """A face around a place."""
    box = np.array([x - size / 2, y - size / 2, x + size / 2, y + size / 2])
    points = np.array([[-1, -1], [1, -1], [0, 0], [-1, 1], [1, 1]]) * size / 4 + (x, y)
    return Face(box, points, 0.9)


def test_an_area_holds_a_face_and_80_pixels_around_it_on_the_grid_of_the_network() -> None:
    (area,) = areas_around([face(320, 180)], ROWS, COLUMNS)
    # The box is 300 to 340 and 160 to 200.
    assert area == Area(192, 64, 448, 288, 40.0)
    assert area.left <= 300 - 80 < area.left + 32
    assert area.right - 32 < 340 + 80 <= area.right
    assert area.pixels == 256 * 224


def test_an_area_ends_with_the_picture() -> None:
    (area,) = areas_around([face(5, 350)], ROWS, COLUMNS)
    assert (area.left, area.bottom) == (0, 360)
    picture = np.arange(ROWS * COLUMNS * 3, dtype=np.int64).reshape(ROWS, COLUMNS, 3)
    seen = area.of(picture.astype(np.uint8))
    np.testing.assert_array_equal(seen, picture[area.top :, : area.right].astype(np.uint8))


@pytest.mark.parametrize("seed", range(5))
def test_areas_have_no_pixel_in_common_and_hold_every_face(seed: int) -> None:
    rng = np.random.default_rng(seed)
    places = rng.uniform((0, 0), (1920, 1080), (6, 2))
    known = [face(float(x), float(y), size=30) for x, y in places]
    areas = areas_around(known, 1080, 1920)
    covered = np.zeros((1080, 1920), int)
    for area in areas:
        covered[area.top : area.bottom, area.left : area.right] += 1
    assert covered.max() == 1
    for one in known:
        x0, y0, x1, y1 = (int(v) for v in one.box)
        assert covered[max(0, y0) : y1, max(0, x0) : x1].all()


def test_faces_that_share_surroundings_share_an_area_whose_smallest_face_is_known() -> None:
    (area,) = areas_around([face(200, 180, size=90), face(300, 180, size=30)], ROWS, COLUMNS)
    assert area.smallest == pytest.approx(30)
    apart = areas_around([face(50, 50, size=30), face(590, 310, size=50)], ROWS, COLUMNS)
    assert sorted(area.smallest for area in apart) == pytest.approx([30, 50])


def test_where_there_are_faces_all_over_it_is_the_picture() -> None:
    known = [face(x, y) for x in (100, 320, 540) for y in (90, 270)]
    assert areas_around(known, ROWS, COLUMNS) == [Area(0, 0, COLUMNS, ROWS, 40.0)]


def test_a_face_outside_of_the_picture_and_no_face_need_no_area() -> None:
    assert areas_around([face(-60, 100), face(320, 500)], ROWS, COLUMNS) == []
    assert areas_around([], ROWS, COLUMNS) == []


def test_a_face_is_cut_off_at_an_edge_beyond_which_the_picture_goes_on() -> None:
    area = Area(0, 64, 256, 360, 40.0)
    assert not area.cuts(face(10, 200), ROWS, COLUMNS)
    assert not area.cuts(face(100, 345), ROWS, COLUMNS)
    assert area.cuts(face(100, 80), ROWS, COLUMNS)
    assert area.cuts(face(240, 200), ROWS, COLUMNS)
