"""End-diastole and end-systole by a linear readout, and how its events are scored."""

import numpy as np
import pytest

from echofm_jax.readout import CycleReadout, cycle_angle, event_error, irregularity


def test_the_angle_runs_evenly_from_event_to_event():
    at = np.array([0.0, 2, 3, 4, 7, 10, 11])
    found = cycle_angle((np.array([2.0, 10]), np.array([4.0])), at)
    expected = [np.nan, 0, np.pi / 2, np.pi, 1.5 * np.pi, np.nan, np.nan]
    np.testing.assert_allclose(found, expected)


def test_between_two_events_of_a_kind_nothing_is_known():
    found = cycle_angle((np.array([0.0, 4, 8]), np.array([6.0])), np.array([2.0, 5, 7]))
    np.testing.assert_allclose(found, [np.nan, np.pi / 2, 1.5 * np.pi])
    assert np.isnan(cycle_angle((np.zeros(0), np.zeros(0)), np.arange(3.0))).all()


def beating(beats, rng):
    """Steps of a heart: its angle in two of six directions, its anatomy in a third; and events."""
    ends = np.cumsum([0.0, *beats])
    systoles = ends[:-1] + 0.35 * np.diff(ends)
    starts = np.arange(0, int(ends[-1]) - 4, 2)
    angle = cycle_angle((ends, systoles), starts + 1.5)
    z = 0.02 * rng.normal(size=(len(starts), 6))
    z[:, 0] += np.cos(angle)
    z[:, 3] -= np.sin(angle)
    z[:, 4] += rng.normal()
    return z, starts, angle, ends, systoles


def test_events_of_another_patient_are_found_though_his_beats_are_irregular():
    rng = np.random.default_rng(0)
    train = [beating(rng.uniform(25, 35, 5), rng) for _ in range(6)]
    readout = CycleReadout([z for z, *_ in train], [a for _, _, a, *_ in train], list("aabbcc"))
    z, starts, _, ends, systoles = beating([20, 41, 27, 60, 24], rng)
    found = readout.events(z, starts, tubelet=4)
    assert len(found[0]) == 4 and found[0] == pytest.approx(ends[1:-1], abs=0.7)
    assert len(found[1]) == 5 and found[1] == pytest.approx(systoles, abs=0.7)


def test_a_weak_readout_still_turns_though_diastole_lasts_longer():
    """Features that hardly tell: shrunk, and with it the angle's own mean must not decide."""
    rng = np.random.default_rng(0)
    train = [beating(rng.uniform(25, 35, 8), rng) for _ in range(8)]
    noisy = [z + 2 * rng.normal(size=z.shape) for z, *_ in train]
    readout = CycleReadout(noisy, [a for _, _, a, *_ in train], list("aabbccdd"))
    z, starts, *_ = beating([30] * 8, rng)
    assert min(map(len, readout.events(z, starts, tubelet=4))) >= 6


def test_a_zero_of_the_sine_counts_only_where_the_cosine_agrees():
    rng = np.random.default_rng(0)
    train = [beating(rng.uniform(25, 35, 5), rng) for _ in range(6)]
    readout = CycleReadout([z for z, *_ in train], [a for _, _, a, *_ in train], list("aabbcc"))
    z = np.zeros((40, 6))
    z[:, 3] = np.sin(np.arange(40) / 2)  # the sine turns, and nothing else
    z[:, 0] = 1.0 * (np.arange(40) < 20)  # the cosine: first end-diastole, then end-systole
    end_diastoles, end_systoles = readout.events(z, np.arange(0, 80, 2), tubelet=4)
    assert len(end_diastoles) and max(end_diastoles) < 42 < min(end_systoles)


def test_anatomy_is_no_part_of_the_readout():
    rng = np.random.default_rng(0)
    train = [beating(rng.uniform(25, 35, 5), rng) for _ in range(6)]
    readout = CycleReadout([z for z, *_ in train], [a for _, _, a, *_ in train], list("aabbcc"))
    z, starts, *_ = beating([30] * 5, rng)
    for same, moved in zip(
        readout.events(z, starts, 4), readout.events(z + rng.normal(size=6), starts, 4), strict=True
    ):
        assert moved == pytest.approx(same)


def test_neither_a_missed_nor_an_invented_event_is_free():
    labels = np.array([10.0, 30, 50])
    assert event_error(labels, labels + 2, 0, 60) == 2
    missed = event_error(labels, np.array([10.0, 30]), 0, 60)
    assert missed == pytest.approx((20 / 3 + 0) / 2)
    invented = event_error(labels, np.array([10.0, 20, 30, 50]), 0, 60)
    assert invented == pytest.approx((0 + 10 / 4) / 2)
    everywhere = event_error(labels, np.arange(60.0), 0, 60)
    assert everywhere > 2  # candidates everywhere are near every label
    assert event_error(labels, np.zeros(0), 0, 60) == 10  # half a beat
    assert event_error(labels, labels[1:], 20, 60) == 0  # nothing could be found at 10
    assert np.isnan(event_error(np.zeros(0), labels, 0, 60))


def test_irregularity_is_the_variation_of_beat_lengths():
    assert irregularity(np.array([0.0, 10, 20, 30])) == 0
    assert irregularity(np.array([0.0, 10, 30])) == pytest.approx(1 / 3)
    assert irregularity(np.array([0.0, 10])) == 0
