"""Notebooks run from their first cell to their last, and what they show is so."""

import json
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from conftest import REPO, overrides
from nbclient import NotebookClient

NOTEBOOKS = sorted((REPO / "notebooks").glob("*.ipynb"))
STUDIES = 12  # of simulated patients, where a reader gets 40


@pytest.fixture(scope="module")
def surroundings(tmp_path_factory) -> dict[str, str]:
    """Variables for a notebook: where its data lie, an environment's own `echofm` and nothing else.

    The data are made by the notebooks' own first cell. It finds an encoder there already: one that
    compiles in seconds.
    """
    data = tmp_path_factory.mktemp("notebook_data")
    environment = os.environ | {
        "ECHOFM_NOTEBOOK_DATA": str(data),
        "HF_HOME": str(data / "hf"),
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "PATH": f"{programs(data)}:{os.environ['PATH']}",
        "PYTHONPATH": str(REPO),
        "STUDIES": str(STUDIES),
        "EPOCHS": "2",
    }
    environment.pop("ECHOFM_MODEL", None)
    prepare = nbformat.read(NOTEBOOKS[0], 4).cells[1].source
    wanted = "# A small encoder"
    assert prepare.startswith("%%bash\n") and wanted in prepare
    made = prepare.removeprefix("%%bash\n").partition(wanted)[0]
    small = overrides(optim__steps=2, data__window_seconds=1.0, data__dir="data")
    made += f"""
        echofm train --config=$configs/smoke.py:plus --workdir run {" ".join(small)}
        echofm export --workdir run --output model
    """
    subprocess.run(
        ["bash", "-c", made], env=environment, cwd=REPO / "notebooks", check=True,
        capture_output=True,
    )  # fmt: skip
    return environment


def programs(folder: Path) -> Path:
    """A folder with `echofm` as this interpreter has it, installed or not."""
    command = folder / "bin" / "echofm"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m echofm_jax "$@"\n')
    command.chmod(0o755)
    return command.parent


def run(number: int, environment: dict[str, str], told: str) -> dict:
    """Execute notebook `number`; what the expression `told`, a dict, is in the end."""
    (path,) = (path for path in NOTEBOOKS if path.name.startswith(f"{number}_"))
    book = nbformat.read(path, 4)
    assert not any(cell.get("outputs") for cell in book.cells), "store notebooks without outputs"
    book.cells.append(nbformat.v4.new_code_cell(f"import json; print(json.dumps({told}))"))
    resources = {"metadata": {"path": str(path.parent)}}
    client = NotebookClient(book, timeout=300, kernel_name="python3", resources=resources)
    client.execute(env=environment)
    return json.loads(book.cells[-1].outputs[-1].text)


def test_load_and_embed(surroundings):
    found = run(1, surroundings, (
        "dict(shapes=[list(v.shape) for v in features], rows=x.shape, chance=chance, "
        "same=same_view, own=type(model).__name__, hugging=type(hugging).__name__, "
        "neighbour=int(similarity[0].argmax()), patient=list(patients))"
    ))  # fmt: skip
    assert found["shapes"] == [[1, 4 * 4, 32], [1, 4, 32], [1, 32]]
    assert found["rows"] == [3 * STUDIES, 32]
    assert (found["own"], found["hugging"]) == ("EchoFM", "EchoFMModel")
    assert 0.1 < found["chance"] < 0.25 and 0 <= found["same"] <= 1
    assert found["patient"][0] != found["patient"][found["neighbour"]]  # is another's


def test_view_classifier(surroundings):
    found = run(2, surroundings, (
        "dict(accuracy=accuracy, command=score['value'], test=metrics['clips']['test'], "
        "told=[one['answer'] for one in told], views=sorted(set(y)))"
    ))  # fmt: skip
    assert found["accuracy"] > 1 / 6 and found["command"] > 2 / 6  # chance is a sixth
    assert found["test"] >= 3
    assert len(found["told"]) == 3 and set(found["told"]) <= set(found["views"])


def test_segmentation(surroundings):
    found = run(3, surroundings, (
        "dict(dice=metrics['scores']['dice']['value'], structures=found['structures'], "
        "shape=found['labels'].shape, frames=len(label['phase']), "
        "files=sorted(path.name for path in figures.iterdir()), epochs=len(metrics['epochs']))"
    ))  # fmt: skip
    assert {"beating.gif", "beating-dark.gif", "overlays.png"} <= set(found["files"])
    assert found["structures"][:2] == ["background", "LV"] and 0 < found["dice"] < 1
    assert found["shape"] == [found["frames"], 32, 32] and found["epochs"] == 2


def test_ejection_fraction(surroundings):
    found = run(4, surroundings, (
        "dict(truth=list(truth), off=list(off), bias=bias, runs=[run['run'] for run in runs])"
    ))  # fmt: skip
    assert len(found["truth"]) == STUDIES  # of 36 clips a third shows an apical view
    assert all(15 <= value <= 75 for value in found["truth"])
    assert found["bias"] == pytest.approx(sum(found["off"]) / len(found["off"]))
    assert len(found["runs"]) == 6 and "random-fold=2" in found["runs"]


def test_phase_tools(surroundings):
    found = run(5, surroundings, (
        "dict(shape=S.shape, samples=len(frames), diagonal=float(np.diag(S).min()), chance=chance, "
        "error=error, true_cycle=true_cycle, "
        "apart=seconds * float(np.abs(matches - np.arange(len(S)))[matches >= 0].min()))"
    ))  # fmt: skip
    assert found["shape"] == [found["samples"] - 4 + 1] * 2  # tubelets that begin at each sample
    assert found["diagonal"] == pytest.approx(1)
    assert 0.3 < found["true_cycle"] < 1.6 and found["apart"] >= found["true_cycle"] / 2
    assert 20 < found["chance"] < 30 and 0 <= found["error"] <= 50


@pytest.mark.slow
def test_the_first_cell_makes_an_encoder_too(tmp_path, surroundings):
    """As a reader runs it, with fewer patients."""
    environment = surroundings | {"ECHOFM_NOTEBOOK_DATA": str(tmp_path)}
    found = run(5, environment, "dict(error=error, chance=chance)")
    assert found["error"] < found["chance"]


def test_cells_are_plain():
    """Same identifiers in every version, a kernel that everyone has, nothing that ran is kept."""
    assert len(NOTEBOOKS) == 5
    for path in NOTEBOOKS:
        book = nbformat.read(path, 4)
        assert [cell.id for cell in book.cells] == [f"cell-{i + 1}" for i in range(len(book.cells))]
        assert book.metadata.kernelspec.name == "python3" and len(book.metadata) == 1
        assert all(cell.execution_count is None for cell in book.cells if cell.cell_type == "code")
        opening = book.cells[0].source
        assert "**Needs**" in opening and "**Takes**" in opening and "*simulated*" in opening
