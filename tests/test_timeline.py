"""Every moment lies in one bucket, and the devices' time is theirs although the loop runs ahead."""

import threading
import time

import jax
import pytest

from echofm_jax.timeline import BUCKETS, Timeline


@pytest.fixture
def timeline():
    timeline = Timeline()
    yield timeline
    timeline.stop_watching()


class Output:
    """What a step of the devices leaves: there when it is told to be."""

    def __init__(self):
        self.ready = threading.Event()

    def block_until_ready(self) -> None:
        self.ready.wait(60)


def spend(timeline: Timeline, bucket: str, seconds: float = 0.02) -> None:
    with timeline.time(bucket):
        time.sleep(seconds)


def test_buckets_sum_to_wall_time_and_nest():
    began = time.monotonic()
    timeline = Timeline(began)
    spend(timeline, "compile")
    with timeline.time("evaluation"):
        spend(timeline, "checkpoint")
    time.sleep(0.02)
    before = time.monotonic()
    seconds = timeline.seconds()
    assert set(seconds) == set(BUCKETS)
    assert before - began <= sum(seconds.values()) <= time.monotonic() - began
    for bucket in ("compile", "checkpoint", "init"):
        assert seconds[bucket] >= 0.02
    assert seconds["evaluation"] < seconds["checkpoint"]
    assert seconds["step"] == seconds["other"] == 0


def test_a_wait_for_data_costs_nothing_while_the_devices_are_busy(timeline):
    output = Output()
    timeline.running(output)
    spend(timeline, "data_wait")
    spend(timeline, "checkpoint")
    progress = timeline.progress()
    assert progress.completed == 0 and progress.waited >= 0.04 and progress.doing == "step"
    output.ready.set()
    timeline.drain()
    busy = timeline.seconds()
    assert busy["data_wait"] == busy["checkpoint"] == 0 and busy["step"] >= 0.04
    spend(timeline, "data_wait")
    time.sleep(0.01)
    idle = timeline.seconds()
    assert idle["data_wait"] >= 0.02 and idle["other"] >= 0.01
    assert idle["step"] == busy["step"] and idle["init"] == busy["init"]


def test_steps_that_are_ahead_are_one_after_the_other(timeline):
    outputs = [Output() for _ in range(3)]
    for output in outputs:
        timeline.running(output)
    for number, output in enumerate(outputs):
        assert timeline.progress().completed == number
        time.sleep(0.02)
        output.ready.set()
        while timeline.progress().completed == number:
            time.sleep(0.001)
    completed, _, median, doing = timeline.progress()
    assert completed == 3 and doing == "other"
    assert median >= 0.02
    assert timeline.seconds()["step"] >= 0.06


def test_a_step_is_not_blamed_for_saving(timeline):
    timeline.running(jax.device_put(0.0))
    timeline.drain()
    before = timeline.progress().waited
    spend(timeline, "checkpoint")
    spend(timeline, "profile")
    assert timeline.progress().waited < before + 0.02
    spend(timeline, "data_wait")
    assert timeline.progress().waited >= before + 0.02


def test_seconds_move_but_not_more_than_there_are(timeline):
    spend(timeline, "compile")
    assert timeline.move(0.01, "compile", "other") == 0.01
    assert timeline.seconds()["other"] == 0.01
    timeline.move(1e6, "compile", "other")
    seconds = timeline.seconds()
    assert seconds["compile"] == 0 and seconds["other"] < 60
