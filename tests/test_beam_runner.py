"""The per-file function as a Beam pipeline in several processes, and what Beam leaves out."""

import importlib.util
import os
import sys
from pathlib import Path

import pytest
from test_assembly import add_files, arguments, stored

from data_pipelines import shards
from echofm_jax import cli

needs_beam = pytest.mark.skipif(
    importlib.util.find_spec("apache_beam") is None,
    reason="Apache Beam is not installed: pip install 'echofm_jax[beam]'",
)
BEAM = "--runner=beam"


@pytest.fixture
def source(tmp_path):
    add_files(tmp_path, range(5))
    (tmp_path / "salt").write_text("s" * 32)
    return tmp_path


@needs_beam
@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # Beam's own
def test_two_processes_make_the_same_bytes_as_none(source, capsys):
    options = ["--", "--direct_running_mode=multi_processing", "--direct_num_workers=2"]
    assert cli.main([*arguments(source), BEAM, *options]) == 0
    found = stored(source)
    assert cli.main([*arguments(source), "--overwrite"]) == 0
    assert found and stored(source) == found


if importlib.util.find_spec("apache_beam"):
    from apache_beam.runners.direct.direct_runner import BundleBasedDirectRunner

    class Lossy(BundleBasedDirectRunner):
        """Ends well, and two of its elements have never been."""

        def run_pipeline(self, pipeline, options):
            result = super().run_pipeline(pipeline, options)
            result.wait_until_finish()
            for path in sorted(Path(os.environ["STAGED"]).glob("*/*"))[:2]:
                path.unlink()
            return result


@needs_beam
@pytest.mark.filterwarnings("default")
def test_what_beam_leaves_out_is_named_counted_and_done(source, monkeypatch, capsys):
    monkeypatch.setenv("STAGED", str(source / "data-ingest" / "staged"))
    options = [BEAM, "--json", "--", f"--runner={__name__}.Lossy"]
    assert cli.main([*arguments(source), *options]) == 0
    said = capsys.readouterr()
    assert "Beam left out 2 of 5 files" in said.err and '"left_out_by_beam": 2' in said.out
    rows = (source / "data-report.csv").read_text().splitlines()[1:]
    assert len(rows) == 5 and all(",accepted," in row for row in rows)
    assert sum("left out by Beam" in row for row in rows) == 2
    assert sum(shards.dataset_info(source / "data").records.values()) == 5


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
