"""`echofm ingest --runner beam`: the per-file function as an Apache Beam pipeline.

Everything after `--` goes to Beam as it is. The workers need this package and the same folders
under the same paths; what they make of a file they stage there, as local processes do.

Where a worker dies, some of Beam's runners wait for ever, and others start the same file again
until they give up. So a worker hands each file to a process beside it, whose memory is limited.
"""

import os
from collections.abc import Sequence

from data_pipelines.one_file import Task
from data_pipelines.staging import stage_apart, time_limit
from data_pipelines.workers import Apart
from echofm_jax.errors import InputError


def run(tasks: Sequence[Task], options: Sequence[str]) -> None:
    """Stage every task on the runner that `options` name; ends when the pipeline has.

    Raises:
      InputError: Beam is not installed, or the pipeline failed.
    """
    try:
        import apache_beam as beam
        from apache_beam.options.pipeline_options import PipelineOptions
    except ImportError:
        raise InputError(
            "--runner beam needs Apache Beam: pip install 'echofm_jax[beam]'"
        ) from None

    class Stage(beam.DoFn):
        """Stages files; Beam has as many of them on a machine as it has cores."""

        def setup(self):
            self.apart = Apart(len(os.sched_getaffinity(0)), time_limit)

        def process(self, task):
            stage_apart(task, self.apart)

        def teardown(self):
            self.apart.close()

    try:
        with beam.Pipeline(options=PipelineOptions(list(options))) as pipeline:
            _ = pipeline | beam.Create(tasks) | beam.ParDo(Stage())
    except Exception as error:  # of any runner, and of any kind
        reason = str(error).strip().splitlines() or [""]
        raise InputError(
            f"the Beam pipeline failed ({type(error).__name__}: {reason[-1][:300]}): mend it and "
            "start again; what was staged is kept"
        ) from error
