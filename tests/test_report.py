"""The report of a loop: which steps are written, with what pace, and when it gives up."""

import time
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from echofm_jax.goodput import Goodput, overall, read_runs
from echofm_jax.hosts import KINDS, Alone, Hosts
from echofm_jax.metrics import read_metrics
from echofm_jax.report import Report, device_memory
from echofm_jax.watchdog import Watchdog


@pytest.fixture
def goodput(tmp_path):
    with Goodput() as goodput:
        goodput.open(tmp_path, start=0)
        goodput.running(jnp.float32(0))  # as the loop does with every step
        yield goodput


@pytest.fixture
def report(tmp_path, goodput):
    config = ConfigDict({"train": {"log_every": 2, "max_bad_steps": 3}, "data": {"batch_size": 4}})
    return Report(
        config, tmp_path, start=0, steps=5, schedule=lambda n: 0.5 * n, flops=1e9,
        most_bad=lambda steps: 1.25 * steps, goodput=goodput, watchdog=Watchdog(goodput, 10.0),
    )  # fmt: skip


def metrics(step: int, bad: int = 0) -> dict:
    shown = {name: jnp.float32(step) for name in ("loss", "recon", "triplet", "cycle")}
    return shown | {
        "grad_norm": jnp.float32(1), "skipped": jnp.int32(bad), "bad_in_a_row": jnp.int32(bad)
    }  # fmt: skip


def test_a_report_writes_every_nth_step_and_the_last(report, goodput, tmp_path):
    with report:
        for step in range(1, 6):
            report.log(step, metrics(step), bad_records=step)
        assert [row["step"] for row in read_metrics(tmp_path / "metrics.jsonl")] == [2, 4]
    rows = read_metrics(tmp_path / "metrics.jsonl")
    assert [(row["step"], row["loss"]) for row in rows] == [(2, 2), (4, 4), (5, 5)]
    # Step n is made with the rate after n - 1 updates.
    assert [row["lr"] for row in rows] == [0.5, 1.5, 2.0]
    assert [row["bad_records"] for row in rows] == [2, 4, 5]
    for row in rows:
        assert row["clips_per_s"] > 0
        assert row["clips_per_s_per_chip"] == row["clips_per_s"] / jax.device_count()
        assert row["mfu"] == pytest.approx(row["clips_per_s"] / 4 * 1e9 / report.peak)
        assert not [name for name in row if name.startswith("hosts/")]  # there is but one
    assert not report.given_up


def test_a_report_gives_up_on_too_many_bad_records(report):
    with report:
        for step in range(1, 5):
            report.log(step, metrics(step), bad_records=2 * step - 2)
        assert not report.given_up  # 2 after 2 steps
    assert "6 records could not be read up to step 4, on all hosts" in report.given_up


def test_a_report_says_that_training_diverged(report):
    with report:
        report.log(2, metrics(2, bad=2))
        report.log(4, metrics(4, bad=4))
        assert not report.given_up  # step 4 is still pending
    assert "4 steps in a row were not finite, up to step 4" in report.given_up


def test_step_and_data_wait_are_seconds_a_step_and_goodput_is_kept(report, goodput, tmp_path):
    with report:
        for step in range(1, 5):
            values = metrics(step)
            goodput.running(values["loss"])
            report.log(step, values)
            goodput.drain()
            with goodput.time("data_wait"):
                before = goodput.seconds()["data_wait"]
                while goodput.seconds()["data_wait"] < before + 0.01:
                    pass
    first, second = read_metrics(tmp_path / "metrics.jsonl")
    assert first["data_wait_s"] >= 0.005  # one of its two steps waited before it was closed
    assert second["data_wait_s"] >= 0.01
    assert 0 < second["step_s"] * 2 <= goodput.seconds()["step"]
    (run,) = read_runs(tmp_path / "goodput.json")
    assert run["step"] == 5  # with the one before the report
    assert 0 < second["goodput"] < 1
    assert overall([run])["data_wait"] >= 0.03


class Starving(Hosts):
    """Two hosts, of which the other one waits for data all the time."""

    def gather(self, row):
        if len(row) != len(KINDS) + 1:
            return super().gather(row)
        other = row.copy()
        other[list(KINDS).index("data_wait_s")] = 1e6
        return jnp.stack([row, other])


def test_devices_that_wait_for_another_host_s_data_make_no_step(report, goodput, tmp_path):
    report.hosts = Starving()
    report.hosts.names *= 2
    report.hosts._table = np.zeros((2, len(KINDS)))
    report.alone = Alone()
    with report:
        for step in range(1, 7):
            values = metrics(step)
            with goodput.time("step"):
                time.sleep(0.01)
            goodput.running(values["loss"])
            report.log(step, values, bad_records=3)
    rows = read_metrics(tmp_path / "metrics.jsonl")
    assert all(row["data_wait_s"] == 0 for row in rows)  # this host's own, in every window
    assert all(row["step_s"] >= 0.01 and row["hosts/data_wait_s_max"] == 1e6 for row in rows)
    assert all(row["bad_records"] == 6 for row in rows)  # of both hosts
    assert goodput.seconds()["data_wait"] >= 0.06
    assert rows[-1]["goodput"] < 0.5


def test_memory_is_that_of_the_fullest_device_where_devices_tell():
    def device(**stats) -> SimpleNamespace:
        return SimpleNamespace(memory_stats=lambda: stats or None)

    one = device(bytes_in_use=6e9, peak_bytes_in_use=7e9, bytes_limit=16e9)
    two = device(bytes_in_use=5e9, peak_bytes_in_use=8e9, bytes_limit=16e9)
    assert device_memory([one, two]) == {"hbm_gb": 6, "hbm_peak_gb": 8}
    assert device_memory([device()]) == device_memory([device(bytes_in_use=1)]) == {}
    assert isinstance(device_memory(jax.local_devices()), dict)
