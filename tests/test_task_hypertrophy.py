"""`echofm finetune --task hypertrophy` from files to a head that measures, and what it refuses."""

import csv
import json
import logging
import stat
from pathlib import Path

import apex
import discs
import numpy as np
import pytest
import walls
from PIL import Image

from data_pipelines.labelled_sources import labelled_set
from data_pipelines.records import LANDMARKS
from echofm_jax import cli
from echofm_jax.pytorch import EchoFMHypertrophy, fitting, scores

ENCODER = {"size": 48, "width": 16, "depth": 2, "frames": 4}
FAST = ("--config.lr=0.01", "--config.epochs=3", "--config.patience=0", "--device=cpu",
        "--workers=1")  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """`model`, and `lvh`, a small EchoNet-LVH."""
    folder = tmp_path_factory.mktemp("hypertrophy")
    discs.write_encoder(folder / "model", **ENCODER)
    walls.write(folder / "lvh")
    return folder


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Few draws of patients, and the root logger as it was."""
    monkeypatch.setattr(scores, "DRAWS", 20)
    root = logging.getLogger()
    before = list(root.handlers)
    yield
    root.handlers[:] = before
    logging.getLogger("echofm_jax").setLevel(logging.NOTSET)


def command(folder: Path, workdir: Path, *more: str, source: str = "lvh") -> list[str]:
    return ["finetune", f"--model={folder / 'model'}", "--task=hypertrophy",
            f"--source={folder / source}", f"--workdir={workdir}", *FAST, *more]  # fmt: skip


@pytest.fixture(scope="module")
def trained(folder) -> Path:
    """A workdir."""
    argv = command(folder, folder / "run", "--dataset=echonet_lvh", "--json")
    assert cli.main(argv) == 0
    return folder / "run"


def test_walls_are_measured_in_mm_and_hypertrophy_is_told(trained):
    metrics = json.loads((trained / "pretrained" / "metrics.json").read_text())
    told, chance = metrics["scores"], metrics["chance"]
    assert metrics["outputs"] == list(LANDMARKS) and metrics["target"] == "points"
    assert metrics["clips"] == {"train": 8, "val": 4, "test": 4}
    assert metrics["frames"] == {"train": 24, "val": 12, "test": 12}
    assert metrics["clips_in_pixels"] == {"train": 0, "val": 0, "test": 0}
    names = {f"{name}_{phase}_mae_mm" for name in ("ivs", "lvid", "lvpw") for phase in "ds"}
    assert names < told.keys() and not any("mae_pixels" in name for name in told)
    assert told["ivs_d_mae_mm"]["value"] < 0.7 * chance["ivs_d_mae_mm"]
    assert told["landmark_error_mm"]["value"] < 0.7 * chance["landmark_error_mm"]
    assert told["hypertrophy_auroc"]["value"] == 1 and chance["hypertrophy_auroc"] == 0.5
    drawn = {path.name for path in (trained / "pretrained" / "figures").iterdir()}
    assert drawn == {"calipers.png", "calipers-dark.png", "lengths.png", "lengths-dark.png"}
    assert (
        stat.S_IMODE((trained / "pretrained" / "predictions.csv").stat().st_mode) == 0o600
    )  # it has names
    with (trained / "pretrained" / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["frame"], row["phase"]) for row in rows[:3]] == [
        ("2", "ED"), ("6", "ES"), ("10", "ED"),
    ]  # fmt: skip
    off = [abs(float(r["ivs"]) - float(r["ivs_labelled"])) for r in rows if r["phase"] == "ED"]
    assert np.mean(off) == pytest.approx(told["ivs_d_mae_mm"]["value"], abs=0.01)
    number = int(rows[0]["file"][-6:-4])
    true = np.diff(walls.places(number, 2)[:, 1]) * walls.MM
    assert float(rows[0]["lvid_labelled"]) == pytest.approx(true[1], rel=0.02)


def test_its_head_is_a_folder_that_measures_files(trained, folder, tmp_path):
    head = trained / "pretrained" / "head"
    assert not any(b"SECRET" in path.read_bytes() for path in head.iterdir())
    assert {path.name for path in head.glob("*.py")} == {
        "modeling_echofm.py", "trained_echofm.py", "segmentation_head.py", "hypertrophy_head.py",
    }  # fmt: skip
    assert "11 mm" in (head / "README.md").read_text()
    model = EchoFMHypertrophy.from_pretrained(head)
    thick = folder / "lvh" / "Batch4" / "0XSECRET07.avi"
    (tmp_path / "none.avi").write_bytes(b"")
    found, refused = model.predict([thick, tmp_path / "none.avi"], precropped=True)
    assert refused == {"refused": "empty: "} or refused["refused"].startswith("empty")
    # A video does not tell how large its pixels are.
    assert found["unit"] == "pixels" and found["hypertrophy"] is None
    assert found["landmarks"].shape == (walls.COUNT, 4, 2) and found["names"] == LANDMARKS
    assert np.isnan(found["spacing"]).all() and 0 < found["confidence"] <= 1
    (clip,) = (
        c for c in labelled_set(folder / "lvh", dataset="echonet_lvh").clips if "07" in c.name
    )
    pixels = clip.read(48, False)
    assert np.array_equal(pixels.frames, found["frames"])
    true = np.diff(pixels.points[2][:, 1])
    told = [found[name] for name in ("ivs", "lvid", "lvpw")]
    np.testing.assert_allclose(told, true, atol=2.5)
    assert not 4 <= found["end_diastole"][0] <= 8  # when the cavity is narrow


@pytest.mark.slow
def test_a_killed_run_goes_on_and_ends_the_same(trained, folder, monkeypatch):
    argv = command(folder, folder / "again", "--dataset=echonet_lvh")
    kept = fitting.save_state

    def kill(file, state):
        kept(file, state)
        if len(state["history"]) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(fitting, "save_state", kill)
    assert cli.main(argv) == 130
    monkeypatch.setattr(fitting, "save_state", kept)
    assert cli.main(argv) == 0
    one, other = (
        (workdir / "pretrained" / "head" / "model.safetensors").read_bytes()
        for workdir in (trained, folder / "again")
    )
    assert one == other


def test_files_without_spacing_are_measured_in_pixels_and_it_is_said(folder, tmp_path, capsys):
    source = tmp_path / "own"
    source.mkdir()
    with (source / "labels.jsonl").open("w") as file:
        for number in range(10):
            np.save(source / f"{number}.npy", walls.frames(number))
            points = {
                str(frame): dict(zip(LANDMARKS, walls.places(number, frame).tolist(), strict=True))
                for frame in (2, 6)
            }
            label = {"file": f"{number}.npy", "patient": f"p{number}", "end_diastole": [2, 10],
                     "end_systole": [6], "points": points, "fps": 40}  # fmt: skip
            file.write(json.dumps(label) + "\n")
    argv = command(folder, tmp_path / "run", "--precropped", "--config.epochs=1")
    argv[3] = f"--source={source}"
    assert cli.main(argv) == 0
    metrics = json.loads((tmp_path / "run" / "pretrained" / "metrics.json").read_text())
    count = metrics["clips"]["test"]
    said = f"{count} of {count} test clips do not tell how large a pixel is"
    assert said in capsys.readouterr().err
    assert {"landmark_error_pixels", "ivs_d_mae_pixels", "lvid_s_mae_pixels"} < {*metrics["scores"]}
    assert not any("mm" in name or "hyper" in name for name in metrics["scores"])
    assert metrics["clips_in_pixels"]["test"] == count
    with Image.open(tmp_path / "run" / "pretrained" / "figures" / "lengths.png") as picture:
        assert picture.width > 1000


def test_an_image_backbone_learns_walls_too(folder, tmp_path):
    apex.write(tmp_path / "dinov2", image_size=42)
    argv = command(folder, tmp_path / "run", "--dataset=echonet_lvh", "--config.frames=1")
    argv[1] = f"--model={tmp_path / 'dinov2'}"
    assert cli.main([*argv, "--config.epochs=1"]) == 0
    head = tmp_path / "run" / "pretrained" / "head"
    assert "modeling_echoapex.py" in {path.name for path in head.iterdir()}
    assert "# EchoApex head: left-ventricular hypertrophy" in (head / "README.md").read_text()
    model = EchoFMHypertrophy.from_pretrained(head)
    assert type(model.encoder).__name__ == "EchoApex"
    metrics = json.loads((head.parent / "metrics.json").read_text())
    error = "landmark_error_mm"
    assert metrics["scores"][error]["value"] < metrics["chance"][error]


REFUSED = {
    "no point": ("end_diastole", "no clip has measurement points: give EchoNet-LVH"),
    "outside": ("points", "none of its 4 labelled clips can be used"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_sources_that_cannot_be_measured_are_refused_in_a_line(kind, folder, tmp_path, capsys):
    source = tmp_path / "own"
    source.mkdir()
    points = {"points": {"2": {"wall_lv": [45, walls.HEIGHT + 30]}}} if kind == "outside" else {}
    with (source / "labels.jsonl").open("w") as file:
        for number in range(4):
            np.save(source / f"{number}.npy", walls.frames(number))
            label = {"file": f"{number}.npy", "end_diastole": [2], **points}
            file.write(json.dumps(label) + "\n")
    argv = command(folder, tmp_path / "run", "--precropped")
    argv[3] = f"--source={source}"
    assert cli.main(argv) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines[-1].startswith("echofm finetune: ") and REFUSED[kind][1] in lines[-1]
    if kind == "outside":
        assert "0.npy: label_mismatch a point of frame 2 outside the image" in "\n".join(lines)


def test_a_split_without_points_and_another_target_are_refused(folder, tmp_path, capsys):
    assert cli.main(command(folder, tmp_path / "run", "--dataset=echonet_lvh", "--target=x")) == 2
    assert "--task hypertrophy learns points" in capsys.readouterr().err
