import numpy as np
import pytest
from PIL import Image

from data_pipelines import readers
from data_pipelines.clip import Rejected

PICTURE = np.random.default_rng(0).integers(0, 256, (30, 20)).astype(np.uint8)


def save(path, array):
    Image.fromarray(array).save(path)
    return path


def test_grey_and_colour(tmp_path):
    clip = readers.read(save(tmp_path / "a.png", PICTURE), still=True)
    assert np.array_equal(clip.frames, PICTURE[None]) and clip.frames.dtype == np.uint8
    assert clip.times is None and clip.fps == 0
    same = np.stack([PICTURE] * 3, -1)
    assert np.array_equal(
        readers.read(save(tmp_path / "b.PNG", same), still=True).frames, PICTURE[None]
    )
    same[0, 0, 1] += 1
    assert readers.read(save(tmp_path / "c.png", same), still=True).frames.shape == (1, 30, 20, 3)


def test_a_still_is_no_clip_unless_it_is_asked_for(tmp_path):
    with pytest.raises(Rejected, match="not_video"):
        readers.read(save(tmp_path / "a.png", PICTURE))


def test_what_is_no_picture(tmp_path):
    (tmp_path / "DOE.png").write_bytes(b"DOE^JANE" * 30)
    (tmp_path / "cut.png").write_bytes(save(tmp_path / "a.png", PICTURE).read_bytes()[:150])
    deep = save(tmp_path / "deep.png", PICTURE.astype(np.uint16))
    for path in (tmp_path / "DOE.png", tmp_path / "cut.png", deep):
        with pytest.raises(Rejected, match=r"^unreadable: ") as caught:
            readers.read(path, still=True)
        assert "DOE" not in str(caught.value)
