"""Finding and cropping faces: on scikit-image's astronaut, on pictures without a face, at borders and in threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
import skimage.data

from fer import faces
from fer.errors import ConfigError
from fer.faces import SIZE, Face, clipped, crop_face, find_faces, is_face_crop, whole_face

ASTRONAUT_FACE = (176, 66, 98, 118)  # by eye: x, y, width, height, hairline to chin


@pytest.fixture(scope="module")
def astronaut() -> np.ndarray:
    return skimage.data.astronaut()


@pytest.fixture(scope="module")
def astronaut_faces(astronaut: np.ndarray) -> list[Face]:
    return find_faces(astronaut)


def iou(a: tuple[int, int, int, int], b: tuple[int, int, int, int]) -> float:
    mask = np.zeros((2, 2000, 2000), bool)
    for plane, (x, y, width, height) in zip(mask, (a, b), strict=True):
        plane[y : y + height, x : x + width] = True
    return float((mask[0] & mask[1]).sum() / (mask[0] | mask[1]).sum())


def random_picture(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def test_the_astronaut_has_one_face(astronaut_faces: list[Face]):
    assert len(astronaut_faces) == 1
    assert iou(astronaut_faces[0].box, ASTRONAUT_FACE) > 0.6
    assert all(type(value) is int for value in astronaut_faces[0].box)


def test_grey_and_rgb_agree(astronaut: np.ndarray, astronaut_faces: list[Face]):
    assert find_faces(cv2.cvtColor(astronaut, cv2.COLOR_RGB2GRAY)) == astronaut_faces


def test_a_large_photo_gives_the_box_in_its_own_pixels(astronaut: np.ndarray):
    large = cv2.resize(astronaut, (1536, 1536), interpolation=cv2.INTER_CUBIC)
    [face] = find_faces(large)
    assert iou(face.box, tuple(3 * value for value in ASTRONAUT_FACE)) > 0.6


def test_a_tiny_photo_is_enlarged(astronaut: np.ndarray):
    tiny = cv2.resize(astronaut[20:240, 110:330], (64, 64), interpolation=cv2.INTER_AREA)
    [face] = find_faces(tiny)
    assert iou(face.box, (19, 13, 29, 34)) > 0.5


def test_two_faces_come_biggest_first(astronaut: np.ndarray):
    small = cv2.resize(astronaut, (256, 256), interpolation=cv2.INTER_AREA)
    photo = np.zeros((512, 768, 3), np.uint8)
    photo[:256, :256], photo[:, 256:] = small, astronaut
    big, little = find_faces(photo)
    x, y, width, height = ASTRONAUT_FACE
    assert iou(big.box, (x + 256, y, width, height)) > 0.5
    assert iou(little.box, (x // 2, y // 2, width // 2, height // 2)) > 0.5


def turned(astronaut: np.ndarray, degrees: float) -> np.ndarray:
    x, y, width, height = ASTRONAUT_FACE
    turn = cv2.getRotationMatrix2D((x + width / 2, y + height / 2), degrees, 1.0)
    return cv2.warpAffine(astronaut, turn, (512, 512), borderMode=cv2.BORDER_REPLICATE)


def test_the_astronaut_is_found_rescaled_lit_and_turned(astronaut: np.ndarray):
    rng = np.random.default_rng(0)
    found = boxes = 0
    for degrees in np.linspace(-15, 15, 20):
        scale = float(rng.uniform(0.5, 1.2))
        photo = cv2.resize(turned(astronaut, degrees), None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        photo = (255 * (photo / 255.0) ** rng.uniform(0.6, 1.6)).astype(np.uint8)
        here = find_faces(photo)
        boxes += len(here)
        found += any(iou(face.box, tuple(round(scale * v) for v in ASTRONAUT_FACE)) > 0.4 for face in here)
    assert found >= 19
    assert boxes <= found + 1


@pytest.mark.parametrize("degrees", [-32, 32])
def test_a_face_that_leans_is_found_by_turning_the_photo_and_cropped_upright(astronaut: np.ndarray, degrees: int):
    [face] = find_faces(turned(astronaut, degrees))
    assert iou(face.box, ASTRONAUT_FACE) > 0.4
    assert np.sign(face.angle) == -np.sign(degrees)
    upright = crop_face(astronaut, find_faces(astronaut)[0].box).astype(float)
    crop = crop_face(turned(astronaut, degrees), face.box, angle=face.angle).astype(float)
    leaning = crop_face(turned(astronaut, degrees), face.box).astype(float)
    alike = lambda a: np.corrcoef(upright.ravel(), a.ravel())[0, 1]  # noqa: E731
    assert alike(crop) > alike(leaning)


def test_a_file_that_is_no_yunet_is_a_sentence(astronaut: np.ndarray, tmp_path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FER_YUNET", str(tmp_path / "gone.onnx"))
    with pytest.raises(ConfigError, match="is no file"):
        find_faces(astronaut)
    (tmp_path / "bad.onnx").write_bytes(b"no network")
    monkeypatch.setenv("FER_YUNET", str(tmp_path / "bad.onnx"))
    with pytest.raises(ConfigError, match="cannot read as a YuNet network"):
        find_faces(astronaut)
    (tmp_path / "other.onnx").write_bytes(another_network())
    monkeypatch.setenv("FER_YUNET", str(tmp_path / "other.onnx"))
    with pytest.raises(ConfigError, match="cannot read as a YuNet network"):
        find_faces(astronaut)


def another_network() -> bytes:
    """An ONNX file of one Relu on 3 channels of 320 x 320, written out as its format (protobuf) has it."""

    def field(number: int, value: int | bytes) -> bytes:
        if isinstance(value, int):
            return varint(number << 3) + varint(value)
        return varint(number << 3 | 2) + varint(len(value)) + value

    def varint(n: int) -> bytes:
        return bytes([n & 127 | 128]) + varint(n >> 7) if n > 127 else bytes([n])

    def tensor(name: bytes) -> bytes:
        shape = b"".join(field(1, field(1, size)) for size in (1, 3, 320, 320))
        return field(1, name) + field(2, field(1, field(1, 1) + field(2, shape)))

    node = field(1, b"x") + field(2, b"y") + field(4, b"Relu")
    graph = field(1, node) + field(2, b"g") + field(11, tensor(b"x")) + field(12, tensor(b"y"))
    return field(1, 8) + field(7, graph) + field(8, field(1, b"") + field(2, 13))


def test_what_a_yunet_says_becomes_squares_in_the_photos_pixels(monkeypatch: pytest.MonkeyPatch):
    class Detector:
        """Answers as OpenCV's does: rows of box, landmarks, score, in the pixels of the picture it was shown."""

        def setInputSize(self, size: tuple[int, int]) -> None:
            self.size = size

        def detect(self, image: np.ndarray) -> tuple[int, np.ndarray]:
            assert image.shape == (*self.size[::-1], 3) and max(self.size) == 1024
            rows = np.zeros((2, 15), np.float32)
            rows[:, :4], rows[:, -1] = ((100, 50, 60, 80), (400, 300, 100, 100)), (0.9, 0.8)
            return 2, rows

    monkeypatch.setenv("FER_YUNET", "some.onnx")
    monkeypatch.setattr(faces, "_yunet", lambda _path: Detector())
    big, small = find_faces(np.zeros((1536, 2048), np.uint8))
    assert (big.box, small.box) == ((800, 600, 200, 200), (180, 100, 160, 160))
    assert small.score == pytest.approx(0.9)


@pytest.mark.parametrize("cut", [(0, 0), (66, 0), (0, 176), (66, 176)])
def test_what_is_shown_of_a_box_lies_inside_the_photo(astronaut: np.ndarray, cut: tuple[int, int]):
    photo = astronaut[cut[0] : 185, cut[1] : 280]
    for face in find_faces(photo):
        x, y, width, height = clipped(face.box, photo)
        assert x >= 0 and y >= 0 and width > 0 and height > 0
        assert x + width <= photo.shape[1] and y + height <= photo.shape[0]


def test_a_face_at_the_edge_is_cropped_around_its_own_centre(astronaut: np.ndarray, astronaut_faces: list[Face]):
    x, _y, side, _ = astronaut_faces[0].box
    photo = np.ascontiguousarray(astronaut[:, x + 10 :])  # the left edge runs through the face
    [face] = find_faces(photo)
    assert face.box[0] < 0 and abs(face.box[2] - face.box[3]) <= 1, "a square still"
    assert face.box[0] + face.box[2] / 2 == pytest.approx(side / 2 - 10, abs=2)
    assert clipped(face.box, photo)[0] == 0
    assert clipped((-5, 90, 20, 20), np.zeros((100, 100))) == (0, 90, 15, 10)
    assert clipped((200, -30, 20, 20), np.zeros((100, 100)))[2:] == (0, 0)


@pytest.mark.parametrize("name", ["brick", "coffee", "grass", "gravel", "page", "rocket"])
def test_a_photo_without_a_face_has_none(name: str):
    assert find_faces(getattr(skimage.data, name)()) == []


@pytest.mark.parametrize("shape", [(1, 1), (3, 900), (300, 400, 3)])
def test_noise_flat_and_gradient_have_no_face(shape: tuple[int, ...]):
    ramp = np.linspace(0, 255, int(np.prod(shape))).astype(np.uint8).reshape(shape)
    for picture in (random_picture(*shape), np.full(shape, 90, np.uint8), ramp):
        assert find_faces(picture) == []


def test_threads_find_what_one_thread_finds(astronaut: np.ndarray):
    photos = [np.ascontiguousarray(astronaut[:230, shift:330]) for shift in range(0, 120, 30)]
    alone = [find_faces(photo) for photo in photos]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(find_faces, photos * 4))
    assert all(len(faces) == 1 for faces in alone)
    assert together == alone * 4


@pytest.mark.parametrize(
    "image",
    [np.zeros((9, 9), float), np.zeros((9, 9, 4), np.uint8), np.zeros(9, np.uint8), np.zeros((0, 9), np.uint8)],
)
def test_other_arrays_are_refused(image: np.ndarray):
    for call in (find_faces, whole_face, lambda array: crop_face(array, (0, 0, 5, 5))):
        with pytest.raises(ValueError, match="expected uint8"):
            call(image)


def test_a_crop_is_the_square_around_the_box():
    image = np.zeros((200, 300), np.uint8)
    image[50:146, 100:196] = 200
    assert (crop_face(image, (100, 50, 96, 96), margin=0.0) == 200).all()
    assert (crop_face(image, (124, 50, 48, 96), margin=0.0) == 200).all(), "a narrow box is widened, not stretched"
    wide = crop_face(image, (100, 50, 96, 96), margin=0.5)
    assert wide.shape == (SIZE, SIZE) and wide.dtype == np.uint8
    assert (wide[13:35, 13:35] == 200).all() and (wide[:11] == 0).all() and (wide[:, 37:] == 0).all()


def test_a_crop_without_margin_of_a_48_pixel_picture_is_the_picture():
    image = random_picture(SIZE, SIZE)
    assert (crop_face(image, (0, 0, SIZE, SIZE), margin=0.0) == image).all()
    assert (whole_face(image) == image).all()


def test_a_crop_over_the_border_repeats_the_edge():
    image = np.tile(np.arange(100, dtype=np.uint8), (100, 1))
    crop = crop_face(image, (-24, 76, 48, 48), margin=0.0)
    assert crop.shape == (SIZE, SIZE)
    assert (crop[:, :25] == 0).all() and (crop[:, 24:] == np.arange(24)).all()


def test_shrinking_averages_instead_of_picking():
    checks = (np.indices((480, 480)).sum(axis=0) % 2 * 255).astype(np.uint8)
    assert np.abs(crop_face(checks, (0, 0, 480, 480), margin=0.0).astype(int) - 127).max() <= 1


@pytest.mark.parametrize("box", [(0, 0, 0, 5), (500, 0, 20, 20), (0, -60, 20, 20)])
def test_a_box_without_pixels_is_refused(box: tuple[int, int, int, int]):
    with pytest.raises(ValueError, match="no pixel to crop"):
        crop_face(np.zeros((100, 100), np.uint8), box)


def test_whole_face_takes_the_centre_square():
    image = np.zeros((60, 200, 3), np.uint8)
    image[:, 70:130] = 255
    assert (whole_face(image) == 255).all()
    assert whole_face(np.zeros((1, 7), np.uint8)).shape == (SIZE, SIZE)


def test_only_48_by_48_is_a_face_crop():
    assert is_face_crop(np.zeros((48, 48), np.uint8)) and is_face_crop(np.zeros((48, 48, 3), np.uint8))
    assert not is_face_crop(np.zeros((48, 49), np.uint8))
