import json

import pytest

from data_pipelines.bench_phantom import bench_phantom
from echofm_jax.errors import InputError


def test_clips_and_frames_a_second():
    result = bench_phantom(rounds=1, seconds=0.1, size=64)
    assert json.loads(json.dumps(result)) == result
    per_clip = result["frames_per_second"] / result["clips_per_second"]
    assert per_clip == pytest.approx(result["frames_per_clip"], rel=0.02)
    assert 40 < per_clip < 320 and result["rounds"] == [result["clips_per_second"]]


@pytest.mark.parametrize("changes", [{"rounds": 0}, {"size": 8}])
def test_settings_that_make_no_sense_are_one_line(changes):
    with pytest.raises(InputError):
        bench_phantom(**changes)
