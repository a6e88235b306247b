import pytest

from echofm_jax import perf
from echofm_jax.errors import InputError
from echofm_jax.planning import topology
from echofm_jax.planning.topology import CHIPS


def test_the_largest_v5e_slice():
    pod = topology.parse("v5e:16x16", 2)
    assert (pod.slice_chips, pod.chips, pod.hosts, pod.host_cores) == (256, 512, 128, 112)
    assert str(pod) == "2 × v5e:16x16"


def test_small_slices_are_part_of_a_machine_or_one():
    one, eight = topology.parse("v5e:1x1"), topology.parse("v6e:2x4")
    assert (one.hosts, one.host_chips, one.host_cores) == (1, 1, 28)
    assert (eight.hosts, eight.host_chips, eight.host_cores) == (1, 8, 180)
    assert topology.parse("v5p:2x2x2").hosts == 2


def test_cubes_come_in_any_number():
    assert topology.parse("v5p:4x4x12").hosts == 48
    assert topology.parse("v5p:8x12x24").chips == 2304


@pytest.mark.parametrize("generation", CHIPS)
def test_peaks_are_those_of_the_training_log(generation):
    chip = CHIPS[generation]
    assert chip.peak_flops == perf.PEAK_TFLOPS[chip.device_kind] * 1e12
    assert 1.4e9 < chip.clock_hz < 1.8e9


@pytest.mark.parametrize(
    ("name", "slices", "message"),
    [
        ("v9:2x2", 1, "generations: v5e, v6e, v5p"),
        ("v5e", 1, "v5e comes as 1x1, 2x2, 2x4, 4x4, 4x8, 8x8, 8x16, 16x16"),
        ("v5e:16x61", 1, "did you mean v5e:16x16"),
        ("v5p:2x2", 1, "v5p comes as 2x2x1"),
        ("v5p:4x8x4", 1, "other ascending multiples of 4"),
        ("v5p:16x24x24", 1, "other ascending multiples of 4"),
        ("v5e:4x4x4", 1, "v5e comes as"),
        ("v5e:2x2", 0, "must be at least 1"),
    ],
)
def test_what_does_not_exist_is_refused_with_what_does(name, slices, message):
    with pytest.raises(InputError, match=message):
        topology.parse(name, slices)
