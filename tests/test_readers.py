import os
import pathlib
import zipfile

import numpy as np
import pytest

from data_pipelines import readers
from data_pipelines.clip import Rejected
from echofm_jax.errors import InputError

REPOSITORY = pathlib.Path(__file__).parents[1]
SAMPLES = pathlib.Path(
    os.environ.get("ECHOFM_SAMPLES", REPOSITORY.parent / "shared/data/echo_samples")
)
needs_samples = pytest.mark.skipif(
    not SAMPLES.is_dir(), reason="no sample clips: set ECHOFM_SAMPLES to their folder"
)
# name, shape of the frames, frames a second, source, mode
CLIPS = [
    ("volunteer_a4c.mov", (62, 480, 640, 3), 30, "container", ""),
    ("volunteer_psax_mv.mov", (61, 480, 640, 3), 30, "container", ""),
    ("echotracker_alax.mp4", (68, 584, 630, 3), 25, "container", ""),
    ("tee_mitral.mp4", (76, 576, 1024, 3), 20, "container", ""),
    ("icu_a4c_gray.npy", (73, 200, 200), 0, "unknown", ""),
    ("icu_mmode_bgr.npz", (64, 200, 200, 3), 0, "unknown", ""),
    ("sonosite_a4c_ybr422_jpeg.dcm", (30, 240, 320, 3), 30, "FrameTime", "b_mode"),
    ("acuson_colour_doppler_rgb.dcm", (8, 240, 320, 3), 22.58, "FrameTimeVector", "colour_doppler"),
    ("plax_colour_doppler_palette_rle.dcm", (10, 430, 600, 3), 1000 / 76, "FrameTime", ""),
]  # fmt: skip


@needs_samples
@pytest.mark.parametrize(("name", "shape", "fps", "source", "mode"), CLIPS)
def test_sample(capfd, name, shape, fps, source, mode):
    clip = readers.read(SAMPLES / name)
    assert clip.frames.shape == shape and clip.frames.dtype == np.uint8
    assert clip.fps == pytest.approx(fps, abs=0.01)
    assert (clip.fps_source, clip.mode) == (source, mode)
    assert capfd.readouterr() == ("", "")


@needs_samples
def test_samples_that_are_no_clips():
    for name, reason in (
        ("tee_single_frame_colour.dcm", "single_frame"),
        ("us_phantom_phi_burned_in.zip", "not_video"),
        ("SOURCES.md", "not_video"),
    ):
        with pytest.raises(Rejected) as caught:
            readers.read(SAMPLES / name)
        assert caught.value.reason == reason


@needs_samples
def test_phantom(tmp_path):
    with zipfile.ZipFile(SAMPLES / "us_phantom_phi_burned_in.zip") as archive:
        archive.extract("GREYSCALE_CINE.dcm", tmp_path)
    clip = readers.read(tmp_path / "GREYSCALE_CINE.dcm")
    assert clip.frames.shape == (27, 600, 800)
    assert clip.fps == pytest.approx(30, abs=0.01) and clip.fps_source == "FrameTime"


@needs_samples
def test_sonosite_is_grey_and_not_green():
    """Converting YBR to RGB twice gives channel means of 1, 125 and 1."""
    means = readers.read(SAMPLES / "sonosite_a4c_ybr422_jpeg.dcm").frames.mean((0, 1, 2))
    assert np.ptp(means) < 3 and 5 < means.mean() < 20


@needs_samples
def test_content_goes_before_the_suffix(tmp_path):
    data = (SAMPLES / "acuson_colour_doppler_rgb.dcm").read_bytes()
    for name in ("IM_0001", "1.2.840.113", "clip.avi", "clip.bin"):
        (tmp_path / name).write_bytes(data)
        assert len(readers.read(tmp_path / name).frames) == 8


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.dcm", b"", "empty"),
        ("a.npz", b"", "empty"),
        ("a.csv", b"", "empty"),
        ("a.dcm", b"DOE^JANE 1941-01-01\n" * 50, "unreadable"),
        ("a.dcm", b"short", "unreadable"),
        ("a.dcm", bytes(300), "unreadable"),
        ("a.npy", b"DOE^JANE", "unreadable"),
        ("a.csv", b"DOE^JANE", "not_video"),
        ("a.json", b"{}", "not_video"),
        ("a.txt", b"DOE^JANE", "not_video"),
        ("README", b"DOE^JANE", "not_video"),
        ("a.zip", b"PK\x03\x04" + bytes(40), "not_video"),
    ],
)
def test_what_is_no_clip(tmp_path, capfd, name, content, reason):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(Rejected) as caught:
        readers.read(path)
    assert caught.value.reason == reason
    assert "DOE" not in str(caught.value) and str(tmp_path) not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_missing_file_names_no_path(tmp_path):
    with pytest.raises(Rejected, match=r"^missing$") as caught:
        readers.read(tmp_path / "DOE_JANE.dcm")
    assert (
        caught.value.__cause__ is None and caught.value.__suppress_context__
    )  # no traceback with the path


@pytest.fixture
def tree(tmp_path):
    for name in (
        "b.dcm",
        "a/2.avi",
        "a/1.avi",
        "a/deep/3.mp4",
        ".hidden",
        ".git/x.dcm",
        "a/._1.avi",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return tmp_path


def names(source):
    root, files = readers.find_files(str(source))
    return root, [path.relative_to(root).as_posix() for path in files]


def test_folder(tree):
    assert names(tree) == (tree, ["a/1.avi", "a/2.avi", "a/deep/3.mp4", "b.dcm"])


def test_one_file(tree):
    assert names(tree / "a/1.avi") == (tree / "a", ["1.avi"])


def test_glob(tree):
    assert names(tree / "a/*.avi") == (tree / "a", ["1.avi", "2.avi"])
    assert names(tree / "*/[12].avi") == (tree, ["a/1.avi", "a/2.avi"])
    assert names(tree / "**/*.mp4") == (tree, ["a/deep/3.mp4"])
    assert names(tree / "?") == (tree, ["a/1.avi", "a/2.avi", "a/deep/3.mp4"])  # a folder


def test_relative_glob(tree, monkeypatch):
    monkeypatch.chdir(tree)
    assert names("*.dcm") == (pathlib.Path(), ["b.dcm"])


def test_file_with_a_glob_character_in_its_name(tree):
    (tree / "a[1].avi").write_bytes(b"x")
    assert names(tree / "a[1].avi") == (tree, ["a[1].avi"])


def test_links_to_folders_are_followed_once(tree):
    (tree / "a/loop").symlink_to(tree, target_is_directory=True)
    (tree / "broken.dcm").symlink_to(tree / "nothing")
    (tree / "itself").symlink_to(tree / "itself")
    found = names(tree)[1]  # links to nothing too, so that the report names them
    assert found == ["a/1.avi", "a/2.avi", "a/deep/3.mp4", "b.dcm", "broken.dcm", "itself"]


@pytest.mark.parametrize("name", ["nothing", "*.gif", "nothing/*.avi", "empty"])
def test_nothing_there(tree, name):
    (tree / "empty").mkdir()
    with pytest.raises(InputError, match="no files: ") as caught:
        readers.find_files(str(tree / name))
    assert "\n" not in str(caught.value)
