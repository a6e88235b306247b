"""The named sets of libtpu flags, in the file that the launchers read."""

from pathlib import Path

FILE = Path(__file__).parents[1] / "launch" / "libtpu_flags.txt"


def flag_sets() -> dict[str, list[str]]:
    """Name → flags, such as `{"vmem_96mib": ["--xla_tpu_scoped_vmem_limit_kib=98304"]}`."""
    lines = (line.split() for line in FILE.read_text().splitlines())
    return {words[0]: words[1:] for words in lines if words and words[0] != "#"}
