import numpy as np
import pytest

from data_pipelines import arrays, readers
from data_pipelines.clip import MAX_FRAMES_READ, Rejected

GREY = np.random.default_rng(0).integers(0, 256, (5, 20, 24), dtype=np.uint8)
RGB = np.random.default_rng(1).integers(0, 256, (5, 20, 24, 3), dtype=np.uint8)


def save(path, array):
    np.save(path, array)
    return path


def rejection(path):
    with pytest.raises(Rejected) as caught:
        readers.read(path)
    assert path.name not in str(caught.value) and str(path.parent) not in str(caught.value)
    return caught.value.reason


@pytest.fixture
def path(tmp_path):
    return tmp_path / "clip.npy"


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (GREY, GREY),
        (GREY[..., None], GREY),
        (GREY[:, None], GREY),
        (GREY[None], GREY),
        (RGB, RGB),
        (RGB.transpose(0, 3, 1, 2), RGB),
        (RGB.transpose(3, 0, 1, 2), RGB),
        (np.asfortranarray(GREY), GREY),
        (RGB[:3], RGB[:3]),
    ],
)
def test_layouts(path, array, expected):
    clip = readers.read(save(path, array))
    np.testing.assert_array_equal(clip.frames, expected)
    assert clip.frames.flags.c_contiguous and clip.frames.dtype == np.uint8
    assert clip.times is None and clip.fps_source == "unknown"


@pytest.mark.parametrize(
    "array",
    [
        (GREY / 255).astype(np.float32),
        (GREY / 255).astype(np.float16),
        GREY.astype(np.float64),
        GREY.astype(np.uint16),
        GREY.astype(">u2") * 257,
        RGB.astype(np.float32).transpose(0, 3, 1, 2),
    ],
)
def test_ranges(path, array):
    frames = readers.read(save(path, array)).frames
    expected = RGB if array.ndim == 4 else GREY
    np.testing.assert_allclose(frames, expected.astype(int), atol=0)


def test_10_bits_in_16(path):
    stored = np.linspace(0, 1023, GREY.size).reshape(GREY.shape).astype(np.uint16)
    frames = readers.read(save(path, stored)).frames
    np.testing.assert_array_equal(frames, np.rint(stored / 1023 * 255))


@pytest.mark.parametrize(
    "array", [GREY - 1.0, GREY * 2.0, np.full(GREY.shape, np.nan), np.full(GREY.shape, np.inf)]
)
def test_values_out_of_range(path, array):
    assert rejection(save(path, array)) == "unreadable"


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (GREY[0], "not_video"),
        (GREY[None, None], "not_video"),
        (np.zeros((5, 20, 24, 4), np.uint8), "not_video"),
        (np.zeros((3, 3, 20, 24), np.uint8), "not_video"),  # which 3 is the colour?
        (np.zeros((5, 20, 4), np.uint8), "not_video"),
        (GREY.astype(np.complex64), "not_video"),
        (GREY.astype(str), "not_video"),
        (GREY[:1], "single_frame"),
        (RGB[0], "single_frame"),
        (RGB[:1], "single_frame"),
        (np.zeros((0, 20, 24), np.uint8), "empty"),
        (np.zeros((MAX_FRAMES_READ + 1, 16, 16), np.uint8), "too_long"),
    ],
)
def test_what_is_no_clip(path, array, reason):
    assert rejection(save(path, array)) == reason


def test_objects_are_not_unpickled(path):
    np.save(path, np.array([[["JANE DOE"] * 20] * 20] * 2, object), allow_pickle=True)
    assert rejection(path) == "not_video"


def test_announced_size_is_checked_before_it_is_allocated(path, tmp_path):
    with path.open("wb") as file:
        header = {"descr": "<f8", "fortran_order": False, "shape": (4000, 60000, 60000)}
        np.lib.format.write_array_header_1_0(file, header)
        file.write(b"\0" * 64)
    assert rejection(path) == "too_long"
    with path.open("wb") as file:
        header["shape"] = (400, 600, 600)
        np.lib.format.write_array_header_1_0(file, header)
    assert rejection(path) == "truncated"


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_cut_files(tmp_path, suffix):
    path = tmp_path / f"clip{suffix}"
    np.savez(path, clip=GREY) if suffix == ".npz" else np.save(path, GREY)
    data = path.read_bytes()
    for length in (len(data) - 1, len(data) // 2, 100, 5, 1):
        path.write_bytes(data[:length])
        assert rejection(path) in ("truncated", "unreadable")
    path.write_text("JANE DOE")
    assert rejection(path) == "unreadable"


@pytest.mark.parametrize("key", ["clip", "video", "frames", "something"])
def test_archive(tmp_path, key):
    path = tmp_path / "clip.npz"
    np.savez_compressed(path, **{key: RGB, "fps": 25.0, "table": np.zeros((3, 4))})
    clip = arrays.read(path)
    np.testing.assert_array_equal(clip.frames, RGB)
    np.testing.assert_allclose(clip.times, np.arange(5) / 25)
    assert clip.fps_source == "container"


def test_named_array_goes_before_others(tmp_path):
    np.savez(tmp_path / "clip.npz", other=RGB, clip=GREY)
    np.testing.assert_array_equal(arrays.read(tmp_path / "clip.npz").frames, GREY)


def test_archive_without_one_clip(tmp_path):
    path = tmp_path / "clip.npz"
    np.savez(path, a=RGB, b=GREY)
    assert rejection(path) == "not_video"
    np.savez(path, a=np.zeros(4))
    assert rejection(path) == "not_video"


@pytest.mark.parametrize("fps", [0.0, -25.0, np.nan, np.inf, [25.0, 25.0], "25"])
def test_archive_with_a_rate_that_is_none(tmp_path, fps):
    np.savez(tmp_path / "clip.npz", clip=GREY, fps=fps)
    clip = arrays.read(tmp_path / "clip.npz")
    assert clip.times is None and clip.fps_source == "unknown"
