"""The per-file function as a Beam pipeline in several processes, and what Beam leaves out."""

import importlib.util
import os
import signal
import sys
import types
from pathlib import Path, PosixPath

import numpy as np
import pytest
from test_assembly import add_files, arguments, stored
from test_sector import fan_screen
from test_staging import task

from data_pipelines import beam_runner, shards, staging
from data_pipelines.labels import Label
from data_pipelines.one_file import stamps
from echofm_jax import cli

needs_beam = pytest.mark.skipif(
    importlib.util.find_spec("apache_beam") is None,
    reason="Apache Beam is not installed: pip install 'echofm_jax[beam]'",
)
BEAM = "--runner=beam"
PROCESSES = ["--direct_running_mode=multi_processing", "--direct_num_workers=2"]
LEFT_OUT = 2


@pytest.fixture
def source(tmp_path):
    add_files(tmp_path, range(5))
    (tmp_path / "salt").write_text("s" * 32)
    return tmp_path


class Pipeline:
    """As much of a Beam pipeline as ingestion uses, in this process; `--lossy` drops elements."""

    def __init__(self, options: list[str]):
        self.lossy, self.steps = "--lossy" in options, []

    def __or__(self, step):
        self.steps.append(step)
        return self

    def __enter__(self):
        return self

    def __exit__(self, *error):
        elements, stage = self.steps
        stage.setup()
        for element in elements[LEFT_OUT if self.lossy else 0 :]:
            stage.process(element)
        stage.teardown()


@pytest.fixture
def stand_in(monkeypatch):
    """For Beam, where it is not installed; it runs what is given to it."""
    names = ("apache_beam", "apache_beam.options", "apache_beam.options.pipeline_options")
    beam, options, pipeline_options = (types.ModuleType(name) for name in names)
    beam.Pipeline, beam.DoFn, beam.options = Pipeline, object, options
    beam.Create = beam.ParDo = pipeline_options.PipelineOptions = lambda given: given
    for name, module in zip(names, (beam, options, pipeline_options), strict=True):
        monkeypatch.setitem(sys.modules, name, module)


if importlib.util.find_spec("apache_beam"):
    from apache_beam.runners.direct.direct_runner import BundleBasedDirectRunner

    class Lossy(BundleBasedDirectRunner):
        """Ends well, and two of its elements have never been."""

        def run_pipeline(self, pipeline, options):
            result = super().run_pipeline(pipeline, options)
            result.wait_until_finish()
            for path in sorted(Path(os.environ["STAGED"]).glob("*/*"))[:LEFT_OUT]:
                path.unlink()
            return result


@needs_beam
@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # Beam's own
def test_two_processes_make_the_same_bytes_as_none(source, capsys):
    assert cli.main([*arguments(source), BEAM, "--", *PROCESSES]) == 0
    found = stored(source)
    assert cli.main([*arguments(source), "--overwrite"]) == 0
    assert found and stored(source) == found


def test_a_pipeline_makes_the_same_bytes_as_none(source, stand_in):
    assert cli.main([*arguments(source), BEAM]) == 0
    found = stored(source)
    assert cli.main([*arguments(source), "--overwrite"]) == 0
    assert found and stored(source) == found


def check_what_is_left_out(source, capsys, option: str) -> None:
    assert cli.main([*arguments(source), BEAM, "--json", "--", option]) == 0
    said = capsys.readouterr()
    assert "Beam left out 2 of 5 files" in said.err and '"left_out_by_beam": 2' in said.out
    rows = (source / "data-report.csv").read_text().splitlines()[1:]
    assert len(rows) == 5 and all(",accepted," in row for row in rows)
    assert sum("left out by Beam" in row for row in rows) == 2
    assert sum(shards.dataset_info(source / "data").records.values()) == 5


def test_what_a_pipeline_leaves_out_is_named_counted_and_done(source, stand_in, capsys):
    check_what_is_left_out(source, capsys, "--lossy")


@needs_beam
@pytest.mark.filterwarnings("default")
def test_what_beam_leaves_out_is_named_counted_and_done(source, monkeypatch, capsys):
    monkeypatch.setenv("STAGED", str(source / "data-ingest" / "staged"))
    check_what_is_left_out(source, capsys, f"--runner={__name__}.Lossy")


class Deadly(PosixPath):
    """A file whose reader dies, as a decoder does of some."""

    def stat(self, **_):
        os.kill(os.getpid(), signal.SIGSEGV)


def check_deaths(folder: Path, options: list[str]) -> None:
    """A worker that dies of a file costs that file, and stops nobody."""
    path = folder / "clip.npy"
    np.save(path, fan_screen(1).frames)
    dead = [task(folder, key)._replace(path=Deadly(folder / key)) for key in ("00", "01")]
    now = stamps(path, Label())
    good = [task(folder, key)._replace(path=path, stamps=now) for key in ("10", "11")]
    beam_runner.run([dead[0], good[0], dead[1], good[1]], options)
    found = [staging.get_outcome(folder / "staged", t.key) for t in (*dead, *good)]
    assert found[:2] == [staging.DIED] * 2 and [o.reason for o in found[2:]] == ["", ""]


def test_a_decoder_that_dies_does_not_stop_a_pipeline(tmp_path, stand_in):
    check_deaths(tmp_path, [])


@needs_beam
@pytest.mark.filterwarnings("default")
def test_a_decoder_that_dies_does_not_stop_beam(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))  # Beam's processes know `Deadly`
    check_deaths(tmp_path, PROCESSES)


@needs_beam
@pytest.mark.filterwarnings("default")
def test_a_pipeline_that_fails_is_one_line(source, capsys):
    assert cli.main([*arguments(source), BEAM, "--", "--runner=NoSuchRunner"]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "the Beam pipeline failed" in error and "NoSuchRunner" in error


def test_without_beam_the_extra_is_named(source, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "apache_beam", None)  # as if it were not installed
    assert cli.main([*arguments(source), BEAM]) == 2
    assert "pip install 'echofm_jax[beam]'" in capsys.readouterr().err
    assert cli.main([*arguments(source), "--", "--direct_num_workers=2"]) == 2
    assert "need --runner beam" in capsys.readouterr().err
