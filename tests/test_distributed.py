"""Where a process finds its cluster, and notes between hosts; the rest is in test_cluster.py."""

import pytest

from echofm_jax.distributed import agree, cluster, find_place, gather
from echofm_jax.errors import InputError

NAMES = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID", "JAX_COORDINATOR_PORT")


@pytest.fixture
def environment(monkeypatch):
    def set_to(**values) -> None:
        for name in NAMES:
            monkeypatch.delenv(name, raising=False)
        for name, value in values.items():
            monkeypatch.setenv(name, value)

    return set_to


def explicit(address="a:1", count="4", index="2", **others) -> dict[str, str]:
    return dict(zip(NAMES, (address, count, index), strict=False)) | others


@pytest.mark.parametrize(
    ("values", "place"),
    [
        ({}, None),
        (explicit(count="1", index="0"), None),
        (explicit(), ("a:1", 4, 2)),
        (explicit(address="a"), ("a:8476", 4, 2)),
        (explicit(address="a", JAX_COORDINATOR_PORT="9"), ("a:9", 4, 2)),
    ],
)
def test_the_environment_says_where_the_cluster_is(values, place, environment):
    environment(**values)
    found = find_place()
    assert (found and found[:3]) == place


def test_slurm_says_it_by_itself(environment, monkeypatch):
    environment(JAX_COORDINATOR_PORT="8476")
    slurm = {"JOB_ID": "7", "STEP_NODELIST": "n[3-6]", "NTASKS": "4", "PROCID": "3", "LOCALID": "0"}
    for name, value in slurm.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    assert find_place() == ("n3:8476", 4, 3, [0])


@pytest.mark.parametrize(
    "values",
    [
        explicit(index="4"),
        explicit(index="-1"),
        explicit(count="four"),
        {"JAX_COORDINATOR_ADDRESS": "a:1"},
        {"JAX_NUM_PROCESSES": "4"},
    ],
)
def test_half_a_cluster_is_refused_before_anything_waits(values, environment):
    environment(**values)
    with pytest.raises(InputError, match=r"JAX_NUM_PROCESSES=.*JAX_PROCESS_ID="), cluster():
        pass


def test_a_process_on_its_own_agrees_with_itself(environment):
    environment()
    with cluster():
        assert gather("x") == ["x"]
        assert agree("") == "" and agree("full") == "full"
