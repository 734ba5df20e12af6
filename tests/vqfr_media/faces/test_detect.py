import warnings
from pathlib import Path
from typing import Literal

import av
import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch
from safetensors.torch import save_file

from vqfr_media.errors import CheckpointError
from vqfr_media.faces.align import similarity, template
from vqfr_media.faces.anchors import priors
from vqfr_media.faces.coarse_network import WholeAndCoarse, WithoutSmallFaces
from vqfr_media.faces.detect import THUMBNAIL, WEAK, RetinaFaceDetector, detect
from vqfr_media.faces.turned import moved
from vqfr_media.frames import Display, Frame, PixelFormat
from vqfr_media.values import Face

Picture = npt.NDArray[np.uint8]
RGB = PixelFormat(family="rgb")


@pytest.fixture(scope="module")
def weights(shared: Path) -> Path:
    path = shared / "weights" / "detection_mobilenet0.25_Final.pth"
    if not path.is_file():
        pytest.skip(f"no detector weights at {path}")
    return path


@pytest.fixture(scope="module")
def detector(weights: Path) -> RetinaFaceDetector:
    return RetinaFaceDetector(weights, backbone="mobilenet")


@pytest.fixture(scope="module")
def clean(shared: Path) -> list[Picture]:
    """Two 720p frames of the clean clip, with one face and with two."""
    found = []
    with av.open(str(shared / "data" / "clips" / "duo_gt.mp4")) as container:
        for index, frame in enumerate(container.decode(video=0)):
            if index in (5, 120):
                found.append(frame.to_ndarray(format="rgb24").astype(np.uint8))
            if len(found) == 2:
                break
    return found


@pytest.fixture(scope="module")
def pictures(clean: list[Picture]) -> list[Picture]:
    """The same small, at a size that no stride divides."""
    sizes = ((640, 360), (531, 299))
    return [
        cv2.resize(picture, size, interpolation=cv2.INTER_AREA).astype(np.uint8)
        for picture, size in zip(clean, sizes, strict=True)
    ]


def rgb_frame(picture: Picture, display: Display | None = None) -> Frame:
    planes = tuple(np.ascontiguousarray(picture[..., channel]) for channel in (1, 2, 0))
    return Frame(0, 0, planes, RGB, display or Display())


def facexlib_faces(
    weights: Path, picture: Picture, score: float, *, overlap: float
) -> list[list[float]]:
    """facexlib's own detection: box, score and landmarks of anchors that overlap no better one."""
    from facexlib.detection.retinaface import RetinaFace

    network = RetinaFace("mobile0.25", half=False, device="cpu")
    state = torch.load(weights, map_location="cpu", weights_only=True)
    network.load_state_dict({key.removeprefix("module."): t for key, t in state.items()})
    with torch.no_grad():
        rows = network.eval().detect_faces(
            np.ascontiguousarray(picture[..., ::-1]), score, nms_threshold=overlap
        )
    return [[float(value) for value in row] for row in rows]


def intersection_over_union(one: list[float], other: list[float]) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(width, 0.0) * max(height, 0.0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return shared / (sum(areas) - shared)


@pytest.mark.parametrize("backend", ["torch", "openvino"])
def test_faces_are_means_over_facexlibs_anchors(
    pictures: list[Picture], weights: Path, backend: Literal["torch", "openvino"]
) -> None:
    pytest.importorskip(backend)
    detector = RetinaFaceDetector(weights, backbone="mobilenet", backend=backend)
    counts = []
    for picture in pictures:
        anchors = facexlib_faces(weights, picture, WEAK * 0.8, overlap=1.0)
        best = facexlib_faces(weights, picture, WEAK * 0.8, overlap=0.4)
        assert len(anchors) > 3 * len(best)
        faces = detector(picture)
        counts.append(len(faces))
        for face, row in zip(faces, best, strict=True):
            assert face.score == pytest.approx(row[4], abs=1e-5)
            shares = [intersection_over_union(row, other) - 0.5 for other in anchors]
            votes = [
                max(0.0, share) * other[4] ** 2
                for share, other in zip(shares, anchors, strict=True)
            ]
            expected = np.average(anchors, axis=0, weights=votes)
            np.testing.assert_allclose(face.box, expected[:4], atol=2e-3)
            np.testing.assert_allclose(face.landmarks.ravel(), expected[5:], atol=2e-3)
    assert counts == [1, 2]


def test_a_face_that_moves_evenly_does_not_tremble(
    pictures: list[Picture], weights: Path, detector: RetinaFaceDetector
) -> None:
    # The picture, shifted by a pixel at a time; measured: 0.39 pixels, 0.64 of the best anchor.
    offsets, singles = [], []
    for shift in range(12):
        shifted = np.roll(pictures[0], shift, axis=1)
        (face,) = detector(shifted)
        (row,) = facexlib_faces(weights, shifted, WEAK * 0.8, overlap=0.4)
        offsets.append(face.landmarks - (shift, 0))
        singles.append(np.reshape(row[5:], (5, 2)) - (shift, 0))
    assert np.std(offsets, axis=0).mean() < 0.7 * np.std(singles, axis=0).mean()


@pytest.mark.parametrize("size", [(360, 640), (299, 531), (33, 8)])
def test_priors_are_facexlibs(size: tuple[int, int]) -> None:
    pytest.importorskip("facexlib")
    from facexlib.detection.retinaface import generate_config
    from facexlib.detection.retinaface_utils import PriorBox

    rows, columns = size
    expected = PriorBox(generate_config("mobile0.25"), image_size=size).forward().numpy()
    expected = expected * (columns, rows, columns, rows)
    np.testing.assert_allclose(priors(rows, columns), expected, atol=1e-3)


@pytest.mark.parametrize("size", [(360, 640), (299, 531), (33, 8)])
def test_priors_without_the_finest_map_are_the_later_ones(size: tuple[int, int]) -> None:
    rows, columns = size
    finest = 2 * -(-rows // 8) * -(-columns // 8)
    np.testing.assert_array_equal(
        priors(rows, columns, coarse=True), priors(rows, columns)[finest:]
    )


def test_without_its_finest_map_the_network_says_the_same_of_the_others() -> None:
    from facexlib.detection.retinaface import RetinaFace

    torch.manual_seed(5)
    network = RetinaFace("mobile0.25", half=False, device="cpu").eval().requires_grad_(False)
    batch = 50 * torch.randn(1, 3, 75, 104)
    whole, both = network(batch), WholeAndCoarse(network)(batch)
    finest = 2 * 10 * 13
    for one, same in zip(whole, both[:3], strict=True):
        assert one.shape[1] == finest + 2 * 5 * 7 + 2 * 3 * 4
        torch.testing.assert_close(one, same, rtol=0, atol=1e-6)
    for coarse in (WithoutSmallFaces(network)(batch), both[3:]):
        for one, other in zip(whole, coarse, strict=True):
            torch.testing.assert_close(one[:, finest:], other, rtol=0, atol=1e-6)


@pytest.mark.parametrize("backend", ["torch", "openvino"])
def test_known_faces_are_found_again_where_the_whole_picture_has_them(
    pictures: list[Picture], weights: Path, backend: Literal["torch", "openvino"]
) -> None:
    pytest.importorskip(backend)
    detector = RetinaFaceDetector(weights, backbone="mobilenet", backend=backend)
    # One face of 160 pixels, two of 130, and the first picture as a quarter of a grey one.
    small = np.full_like(pictures[0], 128)
    small[40:220, 300:620] = cv2.resize(pictures[0], (320, 180), interpolation=cv2.INTER_AREA)
    for picture, count in ((pictures[0], 1), (pictures[1], 2), (small, 1)):
        whole = [face for face in detector(picture) if face.score >= 0.8]
        moved_by_little = [moved(face, 9, -7) for face in whole]
        near = [face for face in detector.near(picture, moved_by_little) if face.score >= 0.8]
        assert len(near) == len(whole) == count
        for one, other in zip(near, whole, strict=True):
            assert one.score == pytest.approx(other.score, abs=0.01)
            # A sixth of what they tremble from frame to frame.
            np.testing.assert_allclose(
                one.landmarks, other.landmarks, atol=max(0.003 * other.size, 0.2)
            )
    assert detector.near(pictures[0], []) == []


def test_what_is_near_is_looked_for_only_in_a_picture(detector: RetinaFaceDetector) -> None:
    with pytest.raises(ValueError, match="image must be"):
        detector.near(np.zeros((8, 8), np.uint8), [])


def test_detection_is_deterministic_and_leaves_the_picture_alone(
    pictures: list[Picture], detector: RetinaFaceDetector
) -> None:
    one, other = pictures[0].copy(), pictures[1]
    one.flags.writeable = False
    first = detector(one)
    detector(other)
    for a, b in zip(first, detector(one), strict=True):
        np.testing.assert_array_equal(a.landmarks, b.landmarks)
        assert a.score == b.score


def test_faces_come_in_display_coordinates_whatever_the_proxy(
    clean: list[Picture], detector: RetinaFaceDetector
) -> None:
    frame = rgb_frame(clean[0])
    places = []
    for proxy in (480, 640, 1280):
        detected = detect(frame, detector, proxy=proxy, score=0.8)
        assert detected.frame is frame
        assert detected.thumbnail.shape == THUMBNAIL[::-1]
        assert detected.thumbnail.dtype == np.uint8
        (face,) = detected.faces
        assert face.score > 0.9
        # The crop of an upright face is hardly turned.
        matrix = similarity(face.landmarks, 512)
        assert abs(np.arctan2(matrix[1, 0], matrix[0, 0])) < 0.3
        places.append(face.landmarks.mean(0))
    # The same place to within the detector's own scatter: 4 of 400 pixels.
    assert np.ptp(places, axis=0).max() < 4


@pytest.mark.parametrize("quarter_turns", [1, 2, 3])
def test_a_turned_source_gives_the_same_faces(
    pictures: list[Picture], detector: RetinaFaceDetector, quarter_turns: int
) -> None:
    upright = pictures[0]
    stored = np.ascontiguousarray(np.rot90(upright, -quarter_turns))
    (expected,) = detect(rgb_frame(upright), detector, proxy=640, score=0.8).faces
    turned = rgb_frame(stored, Display(quarter_turns=quarter_turns))
    (found,) = detect(turned, detector, proxy=640, score=0.8).faces
    np.testing.assert_allclose(found.landmarks, expected.landmarks, atol=1e-6)


def test_weak_faces_are_kept_down_to_the_bound() -> None:
    def stand_in(image: Picture) -> list[Face]:
        assert image.shape == (50, 100, 3)
        return [Face(np.array([0, 0, 1, 1.0]), template(2), score) for score in (0.9, 0.4, 0.39)]

    frame = rgb_frame(np.zeros((100, 200, 3), np.uint8))
    detected = detect(frame, stand_in, proxy=100, score=0.8)
    assert [face.score for face in detected.faces] == [0.9, 0.4]
    # Pixel centre 0 of the proxy lies between pixels 0 and 1 of the frame.
    np.testing.assert_array_equal(detected.faces[0].box, [0.5, 0.5, 2.5, 2.5])


def test_openvino_is_refused_on_a_gpu(weights: Path) -> None:
    with pytest.raises(ValueError, match="openvino runs on the CPU, not on 'cuda:0'"):
        RetinaFaceDetector(weights, backbone="mobilenet", device="cuda:0", backend="openvino")


def test_many_sizes_of_pictures_are_kept_apart(
    pictures: list[Picture], detector: RetinaFaceDetector
) -> None:
    (expected,) = detector(pictures[0])
    for side in (64, 72, 80, 88, 96):  # more shapes than one detector keeps compiled
        assert detector(np.full((side, 64, 3), 127, np.uint8)) == []
    (again,) = detector(pictures[0])
    np.testing.assert_array_equal(again.landmarks, expected.landmarks)


def test_half_precision_weights_find_the_same_faces(
    pictures: list[Picture], weights: Path, detector: RetinaFaceDetector, tmp_path: Path
) -> None:
    state = torch.load(weights, map_location="cpu", weights_only=True)
    # Convolutions alone: a variance of the first batch norm, 131248, is infinite in float16.
    half = {key: t.half() if t.ndim == 4 else t for key, t in state.items()}
    save_file(half, tmp_path / "half.safetensors")
    halved = RetinaFaceDetector(tmp_path / "half.safetensors", backbone="mobilenet")
    for picture in pictures:
        faces, expected = halved(picture), detector(picture)
        assert len(faces) == len(expected) > 0
        for one, other in zip(faces, expected, strict=True):
            np.testing.assert_allclose(one.landmarks, other.landmarks, atol=0.05)


def test_pictures_without_a_face_have_none(detector: RetinaFaceDetector) -> None:
    assert detector(np.full((120, 200, 3), 127, np.uint8)) == []
    assert detector(np.zeros((8, 8, 3), np.uint8)) == []


@pytest.mark.parametrize(
    "image", [np.zeros((8, 8), np.uint8), np.zeros((8, 8, 3), np.float32), np.zeros((8, 8, 4))]
)
def test_a_picture_of_another_kind_is_named(detector: RetinaFaceDetector, image: Picture) -> None:
    with pytest.raises(ValueError, match=r"image must be \(h, w, 3\) uint8"):
        detector(image)


def test_a_checkpoint_of_another_network_names_file_and_keys(tmp_path: Path, weights: Path) -> None:
    with pytest.raises(CheckpointError, match=r"mobilenet0\.25.* RetinaFace: \d+ missing: "):
        RetinaFaceDetector(weights, backbone="resnet50")
    state = torch.load(weights, map_location="cpu", weights_only=True)
    state = {key.removeprefix("module."): value for key, value in state.items()}
    del state["fpn.output1.0.weight"]
    torch.save(state, tmp_path / "cut.pth")
    with pytest.raises(CheckpointError, match=r"cut\.pth.* 1 missing: fpn\.output1\.0\.weight"):
        RetinaFaceDetector(tmp_path / "cut.pth", backbone="mobilenet")


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"PK\x03\x04 torn"])
def test_a_damaged_checkpoint_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.pth"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"broken\.pth"):
        RetinaFaceDetector(path, backbone="mobilenet")
    torch.save([1, 2], path)
    with pytest.raises(CheckpointError, match=r"broken\.pth holds no state dict"):
        RetinaFaceDetector(path, backbone="mobilenet")


def test_resnet50_is_built_quietly_and_without_the_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("tried to download")

    from facexlib.detection.retinaface import RetinaFace

    monkeypatch.setattr("torch.hub.load_state_dict_from_url", refuse)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        state = RetinaFace("resnet50", half=False, device="cpu").state_dict()
    torch.save({f"module.{key}": value for key, value in state.items()}, tmp_path / "r50.pth")
    detector = RetinaFaceDetector(tmp_path / "r50.pth", backbone="resnet50", score=1)
    assert isinstance(detector(np.zeros((32, 64, 3), np.uint8)), list)
