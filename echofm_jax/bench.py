"""`echofm bench`: step, loader, ingestion, phantom and start-up, measured; the last line is JSON.

echofm bench step --model vit_s
echofm bench loader --data_dir DATA
echofm bench ingest --source FOLDER
echofm bench phantom
echofm bench startup
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence

from data_pipelines import bench_ingest, bench_loader, bench_phantom
from echofm_jax import cli

STARTUP = {
    "import_echofm_jax": "import echofm_jax",
    "echofm_help": "from echofm_jax.cli import main; main(['--help'])",
}


def main(argv: Sequence[str]) -> int:
    """Measure, print a table, end with the JSON line."""
    parser = argparse.ArgumentParser(
        "echofm bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="only the JSON line")
    parts = parser.add_subparsers(dest="part", required=True)
    step = parts.add_parser("step", help="one training step")
    step.add_argument("--model", default="vit_s")
    step.add_argument("--batch_size", type=int, default=1)
    step.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    step.add_argument("--remat", default="full", choices=("full", "none"))
    step.add_argument("--steps", type=int, default=8)
    bench_loader.add_arguments(parts.add_parser("loader", help="clips a second and core"))
    bench_ingest.add_arguments(parts.add_parser("ingest", help="DICOM clips a second and core"))
    bench_phantom.add_arguments(
        parts.add_parser("phantom", help="simulated clips a second and core")
    )
    parts.add_parser("startup", help="import and --help, whole processes")
    for part in parts.choices.values():
        part.add_argument("--json", action="store_true", default=argparse.SUPPRESS)
    options = vars(parser.parse_args(argv))
    part, only_json = options.pop("part"), options.pop("json")
    run = {
        "step": _step, "loader": _loader, "ingest": _ingest, "phantom": _phantom,
        "startup": _startup,
    }[part]  # fmt: skip
    result = run(**options)
    if not only_json:
        for name, value in result.items():
            print(f"{name:26s}{value:.4g}" if isinstance(value, float) else f"{name:26s}{value}")
    print(json.dumps(result))
    return 0


def _step(**options) -> dict:
    from echofm_jax.bench_step import bench_step

    return bench_step(**options)


def _loader(**options) -> dict:
    return bench_loader.bench_loader(**options)


def _ingest(**options) -> dict:
    return bench_ingest.bench_ingest(**options)


def _phantom(**options) -> dict:
    return bench_phantom.bench_phantom(**options)


def _startup(runs: int = 7) -> dict:
    """Median wall seconds of whole processes, the interpreter's own start included."""
    seconds = {}
    for name, code in {"python": "pass", **STARTUP}.items():
        times = []
        for _ in range(runs):
            began = time.perf_counter()
            subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
            times.append(time.perf_counter() - began)
        seconds[f"{name}_seconds"] = statistics.median(times)
    return seconds


if __name__ == "__main__":
    sys.exit(cli.run("bench", sys.argv[1:]))
