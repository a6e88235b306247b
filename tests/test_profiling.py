"""A window of steps: refused, or traced into a file that the profiler's own reader opens."""

import shutil

import pytest
from jax.profiler import ProfileData
from test_train import arguments

from echofm_jax import cli
from echofm_jax.errors import InputError
from echofm_jax.profiling import parse_window, refuse_window


def test_a_window_holds_both_ends():
    assert list(parse_window("5:7")) == [5, 6, 7]
    assert list(parse_window("5:5")) == [5]
    refuse_window(parse_window("5:7"), steps=7)
    refuse_window(range(0), steps=7)


@pytest.mark.parametrize("text", ["5", "7:5", "0:3", ":", "a:b", "-1:5", "1:2:3", "1.5:3", ""])
def test_what_is_no_window_is_refused(text):
    with pytest.raises(InputError, match="give START:STOP"):
        parse_window(text)


def test_a_window_beyond_the_run_is_refused():
    with pytest.raises(InputError, match="--profile=5:8: the run has 7 steps"):
        refuse_window(parse_window("5:8"), steps=7)


def test_a_run_is_traced_once_and_the_steps_are_named(tiny_data, tmp_path, capsys):
    workdir = tmp_path / "run"
    command = ["train", *arguments(workdir, tiny_data), "--profile=5:6"]
    assert cli.main(command) == 0
    assert f"trace written: tensorboard --logdir={workdir}" in capsys.readouterr().err
    folder = workdir / "tensorboard" / "plugins" / "profile"  # where TensorBoard looks for it
    (trace,) = folder.glob("*/*.xplane.pb")
    steps, launches = [], 0
    for plane in ProfileData.from_file(str(trace)).planes:
        for line in plane.lines:
            for event in line.events:
                launches += "PjRt" in event.name
                if event.name == "train":
                    steps.append(dict(event.stats)["step_num"])
    assert steps == [5, 6] and launches
    # Resumed behind the window, by the same command: nothing more to trace.
    shutil.rmtree(workdir / "checkpoints" / "14")
    assert cli.main(command) == 0
    assert "starting from step 12" in capsys.readouterr().err
    assert len(list(folder.iterdir())) == 1


@pytest.mark.parametrize("window", ["7:5", "10:15"])
def test_a_bad_window_is_one_line_and_leaves_nothing(window, tiny_data, tmp_path, capsys):
    workdir = tmp_path / "run"
    assert cli.main(["train", *arguments(workdir, tiny_data), f"--profile={window}"]) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith(f"echofm train: --profile={window}") and "\n" not in error
    assert not workdir.exists()
