"""Files are read and cleaned once; what is kept is whole, and what is refused is told."""

import dataclasses
import os

import miniatures as mini
import numpy as np
import pytest
import small_echo as small
from PIL import Image
from test_volumes import mhd

from data_pipelines import workers
from data_pipelines.labelled import Pixels
from data_pipelines.labelled_cache import cached, keep, pack, unpack
from data_pipelines.labelled_sources import labelled_set
from echofm_jax.errors import InputError

SIZE = 64


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "source"
    folder.mkdir()
    for number in range(2):
        np.save(folder / f"{number}.npy", mini.video([18.0, 14.0, 12.0, 16.0], number))
    heart = mini.inside(mini.ellipse(18.0)).astype(np.uint8)
    Image.fromarray(heart).save(folder / "m.png")
    Image.fromarray(heart[1:]).save(folder / "small.png")
    (folder / "text.npy").write_text("no clip")
    (folder / "labels.csv").write_text(
        "file,fps,ef,mask,mask_frame\n0.npy,50,60,m.png,2\n1.npy,50,50,small.png,0\ntext.npy,,40,,\n"
    )
    return folder


def clips(source):
    return labelled_set(source, labels=source / "labels.csv", precropped=True).clips


def test_each_file_is_read_once(source, tmp_path):
    folder = tmp_path / "kept"
    found = clips(source)
    fast, refused = cached(found, SIZE, False, folder, 1)
    assert [clip.name for clip in fast] == ["0.npy"] and fast[0].targets == {"ef": 60.0}
    assert refused == [
        ("1.npy", "label_mismatch", "a mask has another size than the frames"),
        ("text.npy", "unreadable", "neither npy nor npz"),
    ]
    fresh, kept = found[0].read(SIZE, False), fast[0].read(SIZE, False)
    assert np.array_equal(fresh.frames, kept.frames)
    assert np.array_equal(fresh.sector, kept.sector) and kept.fps == fresh.fps == 50
    assert list(kept.masks) == [2] and np.array_equal(kept.masks[2], fresh.masks[2])
    assert kept.masks[2].any() and np.isnan(kept.spacing).all()

    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert len(before) == 2 and not any(path.name.startswith(".") for path in before)
    again, refused_again = cached(found, SIZE, False, folder, 1)
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    assert refused_again == refused and again[0].read == fast[0].read


def test_points_are_kept_too():
    points = {7: np.float32([[1, 2], [3, 4], [5, 6], [np.nan, np.nan]]), 2: np.ones((4, 2), "f4")}
    pixels = Pixels(
        frames=np.zeros((9, 8, 8), np.uint8), sector=np.ones((8, 8), bool), fps=0.0,
        spacing=np.float32([0.5, 0.5]), masks={}, points=points, end_diastole=(7,),
    )  # fmt: skip
    kept = unpack(pack(pixels))
    assert kept.end_diastole == (7,) and kept.points.keys() == points.keys()
    for frame in points:
        np.testing.assert_array_equal(kept.points[frame], points[frame])


def test_another_size_is_read_from_the_file(source, tmp_path):
    (clip,), _ = cached(clips(source)[:1], SIZE, False, tmp_path / "kept", 1)
    assert clip.read(32, False).frames.shape == (4, 32, 32)
    assert clip.read(SIZE, True).frames.shape == (4, SIZE, SIZE, 3)


def test_what_has_changed_is_read_again(source, tmp_path):
    folder = tmp_path / "kept"
    found = clips(source)[:1]
    first, _ = cached(found, SIZE, False, folder, 1)
    np.save(source / "0.npy", mini.video([18.0, 14.0, 12.0], 5))
    second, _ = cached(found, SIZE, False, folder, 1)
    assert len(second[0].read(SIZE, False).frames) == 3
    assert len(first[0].read(SIZE, False).frames) == 4
    for size, colour in ((32, False), (32, True)):
        (other,), _ = cached(found, size, colour, folder, 1)
        assert other.read.path != second[0].read.path
        assert unpack(other.read.path.read_bytes()).frames.shape[1:3] == (32, 32)
    assert len(list(folder.iterdir())) == 4


def test_what_may_be_the_machines_fault_is_tried_again(source, tmp_path):
    folder, found = tmp_path / "kept", clips(source)[:1]
    there = source / "0.npy"
    gone = there.rename(source / "away")
    assert cached(found, SIZE, False, folder, 1)[1] == [("0.npy", "missing", "")]
    gone.rename(there)
    assert len(cached(found, SIZE, False, folder, 1)[0]) == 1


def test_nothing_half_written_is_left(source, tmp_path):
    (clip, *_) = clips(source)
    place = tmp_path / "none" / "name"  # no such folder, as when the disk is full
    with pytest.raises(InputError, match=r"cannot keep clips in .*: free some space"):
        keep((clip.read, SIZE, False, place))
    place.with_suffix(".npz").mkdir(parents=True)  # what was written cannot get its name
    with pytest.raises(InputError, match="cannot keep clips in"):
        keep((clip.read, SIZE, False, place))
    assert [path.name for path in place.parent.iterdir()] == ["name.npz"]
    place.with_suffix(".npz").rmdir()
    assert keep((clip.read, SIZE, False, place)) == ()
    assert [path.name for path in place.parent.iterdir()] == ["name.npz"]
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot keep clips in"):
        cached([clip], SIZE, False, tmp_path / "file", 1)


@pytest.mark.parametrize(
    ("error", "detail"),
    [(KeyError("DOE^JANE"), "KeyError"), (MemoryError(), "needs more memory than a worker has")],
)
def test_a_file_on_which_we_fail_stops_no_other(tmp_path, error, detail):
    def fails(size, colour):
        raise error

    assert keep((fails, SIZE, False, tmp_path / "name")) == ("failed", detail)
    assert not any(tmp_path.iterdir())  # so that it is tried again


def test_damage_is_named(source, tmp_path):
    (clip,), _ = cached(clips(source)[:1], SIZE, False, tmp_path, 1)
    clip.read.path.write_bytes(clip.read.path.read_bytes()[:500])
    with pytest.raises(InputError, match=r"is damaged or gone .*: delete it"):
        clip.read(SIZE, False)


def test_records_of_shards_stay_as_they_are(tmp_path):
    found = labelled_set(small.write(tmp_path / "data", {"train": [0, 1]})).clips
    assert cached(found, SIZE, False, tmp_path / "kept", 1) == (list(found), [])
    assert not any((tmp_path / "kept").iterdir())


@pytest.mark.parametrize("colour", [False, True])
def test_all_of_a_clip_survives(colour):
    rng = np.random.default_rng(0)
    pixels = Pixels(
        frames=rng.integers(0, 256, (3, SIZE, SIZE, 3)[: 3 + colour], np.uint8),
        sector=rng.random((SIZE, SIZE)) < 0.5,
        fps=31.25,
        spacing=np.float32([0.3, np.nan]),
        masks={i: rng.integers(0, 6, (SIZE, SIZE), np.uint8) for i in (2, 0)},
    )
    back = unpack(pack(pixels))
    for field in dataclasses.fields(Pixels):
        was, found = getattr(pixels, field.name), getattr(back, field.name)
        if field.name == "masks":
            assert sorted(found) == [0, 2] and all(np.array_equal(found[i], was[i]) for i in was)
        else:
            np.testing.assert_array_equal(found, was)
            assert np.asarray(found).dtype == np.asarray(was).dtype


def test_a_file_that_hangs_is_refused(tmp_path, monkeypatch):
    """The pixels of a MetaImage come from a pipe that nobody writes into."""
    monkeypatch.setattr(workers, "PATIENCE", 3.0)
    path = mhd(tmp_path / "a.mhd")
    path.with_suffix(".raw").unlink()
    os.mkfifo(path.with_suffix(".raw"))
    (tmp_path / "labels.csv").write_text("file,ef\na.mhd,50\n")
    found = labelled_set(tmp_path, labels=tmp_path / "labels.csv", precropped=True).clips
    fast, refused = cached(found, SIZE, False, tmp_path / "kept", 1)
    assert not fast and refused == [("a.mhd", "failed", "took far too long and was stopped")]
    assert not list((tmp_path / "kept").iterdir())  # it may have been the machine: asked again
