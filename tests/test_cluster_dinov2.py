"""DINOv2 on several processes: the losses of one, though each holds few images, or a single one."""

import numpy as np
import pytest
from test_cluster import Cluster
from test_dinov2_objective import SMOKE, overrides, rows

pytestmark = pytest.mark.slow
SETTINGS = {"optim__steps": 6, "objective__warmup_teacher_temp_epochs": 4.0}


class Images(Cluster):
    config, arguments = SMOKE, staticmethod(overrides)


def run(count, folder, data, **changes):
    cluster = Images(count, folder, data, **SETTINGS | changes)
    assert set(cluster.end().values()) == {0}, cluster.said
    return rows(cluster.workdir)


@pytest.fixture(scope="module")
def alone(tmp_path_factory, tiny_data):
    return run(1, tmp_path_factory.mktemp("one"), tiny_data)


@pytest.mark.parametrize(
    ("count", "changes"),
    [
        (2, {}),
        (4, {}),
        pytest.param(2, {"mesh__preset": "fsdp", "mesh__fsdp": 2}, id="2-fsdp"),
    ],
)
def test_processes_agree_with_one(count, changes, alone, tmp_path, tiny_data):
    """The batch has four images: Sinkhorn and KoLeo see them all, on whatever process they are."""
    found = run(count, tmp_path, tiny_data, **changes)
    assert found.keys() == alone.keys() and len(found) == 6
    for step, losses in alone.items():
        np.testing.assert_allclose(found[step], losses, rtol=2e-4, atol=1e-5, err_msg=str(step))
