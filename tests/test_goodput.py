"""Goodput over restarts: nothing counted twice, nothing left out. The real kill: test_train.py."""

import json
import time

import jax.numpy as jnp
import pytest

from echofm_jax.goodput import Goodput, describe, fraction, overall, read_runs


def row(began: float, start: int, last: int, /, *, finished: bool = False, **seconds) -> dict:
    seconds = {"init": 0.0, "step": 0.0} | seconds
    return {"began": began, "start": start, "step": last, "finished": finished, "seconds": seconds}


def test_repeated_steps_and_time_between_runs_are_lost():
    runs = [
        row(100.0, 0, 40, init=10, step=80, data_wait=10),  # 2 s a step, killed after 200
        row(230.0, 25, 60, init=10, step=70),  # from the checkpoint of step 25
    ]
    found = overall(runs)
    assert found == {
        "init": 20, "step": 50 + 70, "data_wait": 10, "repeated": 30, "down": 30.0,
    }  # fmt: skip
    assert sum(found.values()) == 310 - 100
    assert fraction(found) == 120 / 210


def test_a_checkpoint_older_than_the_run_before_costs_that_run_too():
    runs = [row(0.0, 0, 10, step=10), row(10.0, 10, 20, step=10), row(20.0, 5, 8, step=3)]
    found = overall(runs)
    assert found["step"] == 5 + 0 + 3 and found["repeated"] == 5 + 10
    assert found["step"] + found["repeated"] == 23


def test_a_run_that_made_no_step_repeats_nothing():
    assert overall([row(0.0, 0, 0, init=4), row(4.0, 0, 0, init=4)])["repeated"] == 0


def test_time_after_the_last_step_of_a_recipe_is_not_lost():
    runs = [row(0.0, 0, 10, step=10, finished=True), row(9999.0, 10, 20, step=10)]
    assert overall(runs)["step"] == 20 and "down" not in overall(runs)


def test_a_clock_that_went_back_loses_nothing():
    assert overall([row(50.0, 0, 5, step=5), row(20.0, 5, 9, step=4)])["down"] == 0


def test_runs_follow_each_other_in_one_file(tmp_path, caplog):
    caplog.set_level("INFO", "echofm_jax")
    before = time.time()
    with Goodput() as first:
        with first.time("compile"):
            time.sleep(0.02)
        first.open(tmp_path, 0)
        (opened,) = read_runs(tmp_path / "goodput.json")
        assert opened["seconds"]["compile"] >= 0.02  # on disk before the first step
        for _ in range(4):
            first.running(jnp.float32(0))
        first.drain()
    with Goodput() as second:
        second.open(tmp_path, 3)
        second.running(jnp.float32(0))
        second.drain()
        second.finished = True
    one, two = read_runs(tmp_path / "goodput.json")
    assert (one["start"], one["step"], one["finished"]) == (0, 4, False)
    assert (two["start"], two["step"], two["finished"]) == (3, 4, True)
    total = overall([one, two])
    assert total["repeated"] == pytest.approx(one["seconds"]["step"] / 4)
    assert sum(total.values()) == pytest.approx(
        two["began"] + sum(two["seconds"].values()) - one["began"], abs=0.01
    )
    assert before <= one["began"] and sum(total.values()) <= time.time() - before + 0.01
    assert not list(tmp_path.glob("*.tmp"))
    said = [record.getMessage() for record in caplog.records]
    assert [line.partition(" ")[0] for line in said] == ["goodput", "goodput", "all"]
    assert said[2].startswith("all 2 runs: goodput ")


def test_only_one_of_several_processes_writes(tmp_path):
    with Goodput() as other:
        other.open(tmp_path, 0, write=False)
    assert not list(tmp_path.iterdir())


def test_a_run_that_never_came_to_its_workdir_says_nothing(caplog):
    with Goodput():
        pass
    assert not caplog.records


@pytest.mark.parametrize("text", ['[{"began": 1', "[{}]", '{"a": 1}', "[1]"])
def test_a_damaged_file_is_named_and_counting_begins_again(text, tmp_path, caplog):
    (tmp_path / "goodput.json").write_text(text)
    with Goodput() as goodput:
        goodput.open(tmp_path, 7)
    assert "goodput.json is damaged" in caplog.text
    (run,) = json.loads((tmp_path / "goodput.json").read_text())
    assert run["start"] == 7


def test_a_disk_that_cannot_be_written_ends_no_run(tmp_path, caplog):
    with Goodput() as goodput:
        goodput.open(tmp_path / "missing", 0)
    assert "cannot be written" in caplog.text


def test_the_line_names_the_largest_loss_first():
    line = describe({"step": 3000.0, "init": 100.0, "data_wait": 500.0, "other": 0.1})
    assert line == "goodput 83.3% of 1:00:00; data wait 13.9%, init 2.8%"
