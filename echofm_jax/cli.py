"""`echofm COMMAND ...`: finds the command's module, imports only that, and sets the exit status.

0 done; 2 the user's input is wrong (one line on standard error); 1 our fault (traceback);
75 stopped with everything saved, or a host was lost: start the same command again; 130 Ctrl-C.
"""

import importlib
import io
import sys
import time
from collections.abc import Sequence

from echofm_jax.errors import InputError, TryAgain

# command: (module with main(argv), what it does)
COMMANDS = {
    "phantom": ("data_pipelines.phantom", "write simulated echo studies with known truth"),
    "ingest": ("data_pipelines.ingest", "raw echo files -> de-identified shards and a report"),
    "inspect": ("data_pipelines.inspection", "what a data set holds; damage; privacy audit"),
    "train": ("echofm_jax.train", "pre-train; run again with the same workdir it resumes"),
    "plan": ("echofm_jax.plan", "what a config needs on TPUs, before one is asked for"),
    "evaluate": ("echofm_jax.evaluate", "metrics and figures of a checkpoint"),
    "sweep": ("echofm_jax.sweep", "a grid of configs -> runs; again: what is missing"),
    "report": ("echofm_jax.compare", "runs or sweeps -> one table, plots, an offline page"),
    "export": ("echofm_jax.export", "checkpoint -> PyTorch, verified by running both"),
    "import": ("echofm_jax.import_weights", "official-layout PyTorch weights -> a workdir"),
    "embed": ("echofm_jax.pytorch.embed_command", "echo files -> features of a model, in PyTorch"),
    "finetune": ("echofm_jax.pytorch.finetune", "a head on an exported model, from labelled clips"),
    "bench": ("echofm_jax.bench", "step, loader and start-up benchmarks as JSON"),
}
began = time.monotonic()  # when the command did that runs


def usage() -> str:
    """The text of `echofm --help`."""
    lines = ["usage: echofm COMMAND [options]      (echofm COMMAND --help shows an example)", ""]
    lines += [f"  {name:10s}{purpose}" for name, (_, purpose) in COMMANDS.items()]
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if not argv or argv[0] in ("-h", "--help"):
        print(usage())
        return 0 if argv else 2
    command, rest = argv[0], argv[1:]
    if command == "--version":
        import echofm_jax

        print(echofm_jax.__version__)
        return 0
    if command not in COMMANDS:
        import difflib

        near = difflib.get_close_matches(command, COMMANDS, n=1)
        hint = f"; did you mean '{near[0]}'?" if near else f"; commands: {', '.join(COMMANDS)}"
        print(f"echofm: unknown command '{command}'{hint}", file=sys.stderr)
        return 2
    return run(command, rest)


def run(command: str, argv: Sequence[str]) -> int:
    """Import the command's module and run its `main(argv)`; also used by `python -m`."""
    global began
    began = time.monotonic()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a path need not be text
    try:
        return importlib.import_module(COMMANDS[command][0]).main(list(argv)) or 0
    except (InputError, TryAgain) as error:
        print(f"echofm {command}: {' '.join(str(error).split())}", file=sys.stderr)
        return error.status
    except KeyboardInterrupt:
        print(f"echofm {command}: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 141


if __name__ == "__main__":
    sys.exit(main())
