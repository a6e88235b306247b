"""The newcomer's command, from nothing to weights in PyTorch."""

import json
import os
import re
import subprocess

import pytest
from conftest import REPO, SAMPLES

SCRIPT = REPO / "launch" / "quickstart.sh"


def run(*arguments, steps: int = 60) -> subprocess.CompletedProcess:
    environment = os.environ | {"QUICKSTART_STEPS": str(steps)}
    return subprocess.run(
        [SCRIPT, *arguments], env=environment, capture_output=True, text=True, check=False
    )


def test_wrong_arguments_are_refused_before_anything_is_set_up(tmp_path):
    (tmp_path / "there").mkdir()
    for arguments, said in [
        ((tmp_path / "nowhere",), "is not a folder"),
        (("--output", tmp_path / "there"), "exists already"),
        (("--nonsense",), "unknown option"),
    ]:
        result = run(*arguments)
        assert result.returncode == 2
        assert said in result.stderr and len(result.stderr.splitlines()) == 1


@pytest.mark.slow
@pytest.mark.parametrize("real", [False, True], ids=["simulated", "real"])
def test_from_files_to_pytorch(real, tmp_path):
    if real and not SAMPLES.is_dir():
        pytest.skip(f"no sample clips in {SAMPLES}: set ECHOFM_SAMPLES")
    output = tmp_path / "out"
    result = run("--output", output, *([SAMPLES] if real else []))
    assert result.returncode == 0, result.stderr
    said = result.stdout + result.stderr
    assert re.search(r"starting from step (25|50)\n", said)  # killed at half, and resumed
    assert "JAX and PyTorch on the held-out clip differ by" in said
    assert json.loads((output / "run" / "evaluation.json").read_text())["step"] == 60
    figures = {p.name for p in (output / "run" / "figures").iterdir()}
    assert {"reconstruction.png", "loss.png"} <= figures
    exported = {p.name for p in (output / "exported").iterdir()}
    assert exported >= {"echofm.pth", "model.safetensors", "modeling_echofm.py", "README.md"}
