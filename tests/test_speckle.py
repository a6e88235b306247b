import numpy as np
import pytest

from data_pipelines.loader import LoaderConfig, make_loader
from data_pipelines.speckle import write_speckle


@pytest.mark.parametrize("encoding", ["jpeg", "zstd"])
def test_speckle_is_as_hard_to_decode_as_real_clips(tmp_path, encoding):
    folder = str(tmp_path / "speckle")
    write_speckle(folder, clips=2, encoding=encoding)
    clip = next(make_loader(LoaderConfig(data_dir=folder, batch_size=2)))["clip"]
    assert 0.35 < (clip == 0).mean() < 0.6  # sector scans: 0.42 to 0.49 black
    assert not np.array_equal(clip[0], clip[1])
    assert (clip[:, 1:] != clip[:, :-1]).mean() > 0.2  # it moves
