"""`echofm`: help, unknown commands, exit statuses, and what importing the package imports."""

import subprocess
import sys

import pytest
from conftest import REPO

from echofm_jax import __version__, cli


def run(*command: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-W", "error", *command], capture_output=True, text=True, cwd=REPO
    )


def imported(statement: str) -> set[str]:
    """Top-level packages that a fresh process has after `statement`."""
    code = f"{statement}\nimport sys; print(*{{name.split('.')[0] for name in sys.modules}})"
    result = run("-c", code)
    assert result.returncode == 0, result.stderr
    return set(result.stdout.split())


def test_help_names_every_command(capsys):
    assert cli.main(["--help"]) == 0
    shown = capsys.readouterr().out
    for command, (_, purpose) in cli.COMMANDS.items():
        assert any(line.split()[:1] == [command] and purpose in line for line in shown.splitlines())
    assert cli.main([]) == 2


def test_version(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == __version__


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("trian", "unknown command 'trian'; did you mean 'train'?"),
        ("exprot", "did you mean 'export'?"),
        ("zzz", f"unknown command 'zzz'; commands: {', '.join(cli.COMMANDS)}"),
    ],
)
def test_an_unknown_command_names_the_nearest(typed, said, capsys):
    assert cli.main([typed]) == 2
    error = capsys.readouterr().err.strip()
    assert said in error and "\n" not in error


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_command_explains_itself(command, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main([command, "--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert f"usage: echofm {command}" in shown
    example = [line for line in shown.splitlines() if line.strip().startswith(f"echofm {command} ")]
    assert example


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_a_wrong_option_exits_with_2(command, capsys):
    try:
        status = cli.main([command, "--no-such-option"])
    except SystemExit as ended:
        status = ended.code
    assert status == 2
    assert command in capsys.readouterr().err


def test_wrong_input_is_one_line_and_2_in_a_real_process(tmp_path):
    result = run("-m", "echofm_jax", "train", f"--workdir={tmp_path / 'none'}")
    assert result.returncode == 2 and result.stdout == ""
    assert result.stderr.startswith("echofm train: nothing to resume")
    assert len(result.stderr.splitlines()) == 1


def test_a_module_runs_as_its_command():
    result = run("-m", "data_pipelines.phantom", "--output", str(REPO))
    assert result.returncode == 2
    assert result.stderr.startswith("echofm phantom:") and "exists already" in result.stderr


def test_our_own_fault_is_a_traceback_and_1(tmp_path):
    (tmp_path / "broken.py").write_text("def main(argv):\n    raise KeyError('ours')\n")
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "from echofm_jax import cli\n"
        "cli.COMMANDS['broken'] = ('broken', '')\n"
        "sys.exit(cli.main(['broken']))"
    )
    result = run("-c", code)
    assert result.returncode == 1 and "KeyError: 'ours'" in result.stderr


def test_a_closed_pipe_is_no_error():
    code = (
        "import os, sys\n"
        "from echofm_jax import cli\n"
        "def closed(argv): raise BrokenPipeError\n"
        "import data_pipelines.phantom as phantom; phantom.main = closed\n"
        "sys.exit(cli.main(['phantom']))"
    )
    assert run("-c", code).returncode == 141


def test_importing_the_package_imports_no_framework():
    assert not imported("import echofm_jax") & {"jax", "torch", "flax", "numpy"}


def test_help_imports_no_framework():
    statement = "from echofm_jax.cli import main; main(['--help'])"
    assert not imported(statement) & {"jax", "torch", "flax", "numpy"}


def test_the_torch_model_imports_no_jax():
    found = imported("import echofm_jax.pytorch")
    assert "torch" in found and not found & {"jax", "flax", "jaxlib"}
