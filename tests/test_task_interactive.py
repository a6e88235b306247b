"""A training by simulated clicks from end to end: figures, files, resuming, leaving out."""

import csv
import dataclasses
import json
import stat
import subprocess
import sys
from pathlib import Path

import apex
import cv2
import numpy as np
import pytest
import torch
import two_discs
from PIL import Image
from two_discs import Discs

from echofm_jax import cli
from echofm_jax.errors import InputError
from echofm_jax.pytorch import EchoFMInteractive, interactive, labelled_frames, scores
from echofm_jax.pytorch.finetune_run import Run
from echofm_jax.pytorch.recipe import Recipe
from echofm_jax.pytorch.segmentation_samples import Sample, find_frames
from echofm_jax.pytorch.task_interactive import run_interactive, trained_structures


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(scores, "DRAWS", 20)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    (tmp_path / "run").mkdir()
    parts = {"train": range(12), "val": range(12, 14), "test": range(14, 18)}
    return Run(
        folder=tmp_path / "run", model=two_discs.write_encoder(tmp_path / "model"), random=False,
        task="prompts", target="masks", outputs=two_discs.STRUCTURES,
        splits={name: two_discs.clips(numbers) for name, numbers in parts.items()}, seen=(),
        seed=0, colour=False, device="cpu", recipe=Recipe(epochs=3, lr=3e-3, patience=0),
        cache=tmp_path / "cache", simulated=True,
    )  # fmt: skip


def test_a_training_ends_with_a_head_that_outlines_what_it_is_shown(run: Run):
    """Of two equal discs the one that is clicked; and each click more helps."""
    metrics = run_interactive(run)
    assert metrics == json.loads((run.folder / "metrics.json").read_text()) | {
        "outputs": ("LV", "LA")
    }
    value = {name: score["value"] for name, score in metrics["scores"].items()}
    assert value["dice_after_3"] > 0.9 > metrics["chance"]["dice_after_3"] > 0.5
    assert value["dice_from_box"] > 0.85
    assert metrics["curve"][0] == value["dice_after_1"] < metrics["curve"][4]
    assert set(value) == set(metrics["chance"])
    assert "dice_after_5_LA" in value and "dice_after_2" not in value
    assert metrics["outlines"] == 4 * 2 * 2 and metrics["left_out"] == ""
    assert stat.S_IMODE((run.folder / "predictions.csv").stat().st_mode) == 0o600
    with (run.folder / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["structure"] for row in rows[:2]] == ["LV", "LA"]
    assert rows[0]["file"] == "SECRET/14.avi"
    mean = np.mean([float(row["dice_after_1"]) for row in rows])
    assert mean == pytest.approx(value["dice_after_1"], abs=1e-4)
    drawn = {path.name for path in (run.folder / "figures").iterdir()}
    assert drawn == {"clicks.png", "clicks-dark.png", "frames.png", "frames-dark.png"}
    with Image.open(run.folder / "figures" / "frames.png") as picture:
        assert picture.height > 800  # three rows

    head = run.folder / "head"
    assert not any(b"SECRET" in path.read_bytes() for path in head.iterdir())
    card = (head / "README.md").read_text()
    assert 'session = head.open("clip.dcm", frame=0)' in card and "`open` reads" in card
    model = EchoFMInteractive.from_pretrained(head)
    assert model.config.structures == ("LV", "LA")
    pixels = Discs(30)(32, False)
    session = model.session(pixels.frames[:4], 1)
    for value in (1, 3):
        truth = pixels.masks[1] == value
        y, x = (int(place.mean()) for place in np.nonzero(truth))
        mask, quality = session.click(x, y)
        dice = 2 * (mask & truth).sum() / (mask.sum() + truth.sum())
        assert dice > 0.8 and quality > 0.5
        session.restart()
    alone = (
        "import sys; sys.modules['echofm_jax'] = sys.modules['data_pipelines'] = None\n"
        "import numpy as np\n"
        "from head.interactive_head import EchoFMInteractive\n"
        "model = EchoFMInteractive.from_pretrained('head')\n"
        "clip = np.random.default_rng(0).integers(0, 255, (4, 32, 32)).astype('uint8')\n"
        "print(model.session(clip, 1).click(4, 5).quality)"
    )  # the files in the folder are all that it needs
    done = subprocess.run(
        [sys.executable, "-c", alone], cwd=run.folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert 0 < float(done.stdout) < 1


@pytest.mark.slow
def test_killed_it_ends_with_the_same_head(run: Run, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(labelled_frames, "LEAST", 40)
    recipe = Recipe(epochs=2, lr=3e-3, batch=8, patience=0, mode="full")
    run = dataclasses.replace(run, recipe=recipe)
    (tmp_path / "other").mkdir()
    whole = run_interactive(dataclasses.replace(run, folder=tmp_path / "other"))
    steps, step = [], torch.optim.AdamW.step

    def killed(self, *args, **kwargs):
        steps.append(0)
        if len(steps) == 8:  # in the second of two epochs of five steps
            raise KeyboardInterrupt
        return step(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.AdamW, "step", killed)
    with pytest.raises(KeyboardInterrupt):
        run_interactive(run)
    assert (run.folder / "state.pt").exists()
    resumed = run_interactive(run)
    for metrics in (whole, resumed):
        metrics.pop("peak_memory")  # is measured
    assert resumed == whole
    assert len(steps) == 8 + 5  # the second epoch anew, not the first
    files = [folder / "head" / "model.safetensors" for folder in (run.folder, tmp_path / "other")]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert not (run.folder / "state.pt").exists()


def test_a_structure_to_leave_out_that_no_frame_has_or_that_is_alone(run: Run):
    with pytest.raises(InputError, match="--leave_out myocardium: no test frame has it: choose "):
        run_interactive(dataclasses.replace(run, leave_out="myocardium"))
    empty = dict(run.splits) | {"test": two_discs.clips(range(2), values=())}
    with pytest.raises(InputError, match="no pixel of the test clips is labelled"):
        run_interactive(dataclasses.replace(run, leave_out="LV", splits=empty))
    alone = {name: two_discs.clips(range(2), values=(1,)) for name in run.splits}
    with pytest.raises(InputError, match="--leave_out LV: no other structure is labelled"):
        run_interactive(dataclasses.replace(run, leave_out="LV", splits=alone))


def test_structures_that_are_slivers_in_every_frame_are_not_trained_on(run: Run, caplog):
    parts = {"train": find_frames(two_discs.clips(range(4), specks=(3,)), 32, False)}
    assert trained_structures(run, parts) == ("LV",)
    assert "left out: LA: below 10 pixels in every training frame" in caplog.text
    both = {name: two_discs.clips(range(2), specks=(1, 3)) for name in run.splits}
    with pytest.raises(InputError, match=r"masks: LV, LA: below 10 pixels .*raise --config\.size"):
        run_interactive(dataclasses.replace(run, splits=both))
    one = {"train": (*two_discs.clips(range(3), specks=(3,)), *two_discs.clips(range(1)))}
    parts = {name: find_frames(clips, 32, False) for name, clips in one.items()}
    assert trained_structures(run, parts) == ("LV", "LA")  # one frame is enough


def test_samples_have_one_structure_each_drawn_from_those_that_are_there():
    labels = Discs(0)(32, False).masks[1]
    clip = np.zeros((4, 32, 32), np.uint8)
    samples = [Sample(clip, 0, labels), Sample(clip, 1, 0 * labels)] * 40
    batch = interactive.choose(samples, [1, 3], 7)
    assert {sample.position for sample in batch.samples} == {0}  # the others show nothing
    drawn = [np.unique(labels[truth]).tolist() for truth in batch.truth]
    assert 8 < drawn.count([1]) < 32 and drawn.count([1]) + drawn.count([3]) == 40
    assert (interactive.choose(samples, [1, 3], 7).truth == batch.truth).all()
    assert interactive.choose(samples[1:2], [1, 3], 7) is None
    sliver = np.zeros_like(labels)
    sliver[:3, :3] = 1
    assert interactive.choose([Sample(clip, 0, sliver)], [1], 7) is None


def test_a_training_starts_with_clicks_boxes_and_masks_that_one_click_corrects():
    truth = np.repeat((Discs(0)(32, False).masks[1] == 1)[None], 200, 0)
    prompts = interactive.first_prompts(truth, np.random.default_rng(0))
    box = ~prompts.boxes.isnan().any(1)
    mask = (prompts.masks != 0).any((1, 2))
    click = prompts.kinds[:, 0] >= 0
    assert 30 < box.sum() < 70 and 30 < mask.sum() < 70 and not (box & mask).any()
    assert (click == ~box).float().mean() > 0.98  # a rough mask may be right
    assert (prompts.kinds[~mask & ~box] == 1).all() and (prompts.kinds[mask] == 0).any()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """`model`, and `clips` with a table of masks."""
    folder = tmp_path_factory.mktemp("files")
    two_discs.write_encoder(folder / "model")
    (folder / "clips").mkdir()
    rows = ["file,patient,split,fps,mask,mask_frame"]
    for number, split in enumerate(("train", "train", "val", "test")):
        pixels = Discs(number)(32, False)
        np.save(folder / "clips" / f"{number}.npy", pixels.frames)
        cv2.imwrite(str(folder / "clips" / f"{number}.png"), pixels.masks[1])
        rows.append(f"{number}.npy,p{number},{split},4,{number}.png,1")
    (folder / "clips" / "labels.csv").write_text("\n".join(rows) + "\n")
    return folder


def command(folder: Path, workdir: Path, *more: str) -> list[str]:
    return ["finetune", f"--model={folder / 'model'}", f"--source={folder / 'clips'}",
            f"--labels={folder / 'clips' / 'labels.csv'}", f"--workdir={workdir}", "--precropped",
            "--device=cpu", "--workers=1", "--structures", "background", "LV", "myocardium", "LA",
            *more]  # fmt: skip


PROMPTED = "--task=interactive_segmentation"
REFUSED = {
    "unknown": ((PROMPTED, "--leave_out=RV"), "RV: no structure has this name: LV, myocardium, LA"),
    "other task": (("--task=segmentation", "--leave_out=LA"), "--task segmentation takes none"),
    "not there": ((PROMPTED, "--leave_out=myocardium"), "no test frame has it: choose one of LV"),
    "one": ((PROMPTED, "--leave_out=LV", "--structures", "background", "LV"),
            "--leave_out LV: it is the only structure"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_takes_one_line(folder, tmp_path, capsys, name):
    more, told = REFUSED[name]
    assert cli.main(command(folder, tmp_path / "w", *more)) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("echofm finetune: ") and told in line


def test_a_structure_left_out_is_never_trained_on_and_told_apart(
    folder, tmp_path, capsys, monkeypatch
):
    trained, loss = [], interactive.loss
    monkeypatch.setattr(  # listens, and changes nothing
        interactive, "loss", lambda model, batch: trained.append(batch.truth) or loss(model, batch)
    )
    monkeypatch.setattr(labelled_frames, "LEAST", 60)
    more = (PROMPTED, "--leave_out=LA", "--config.epochs=1", "--config.batch=20")
    assert cli.main(command(folder, tmp_path / "w", *more)) == 0
    truth = np.concatenate(trained)
    assert len(truth) == 60
    assert truth[:, :, 20:].sum() < 0.02 * truth.sum()  # the LA lies on the right
    told = capsys.readouterr().out
    assert "dice_from_box_LV" in told and "zero_shot_dice_after_5_LA" in told
    metrics = json.loads((tmp_path / "w" / "pretrained" / "metrics.json").read_text())
    assert metrics["outputs"] == ["LV"] and metrics["left_out"] == "LA"
    assert metrics["scores"]["dice_after_1"] == metrics["scores"]["dice_after_1_LV"]
    assert "dice_after_3_LA" not in metrics["scores"]
    assert metrics["outlines"] == 2
    assert cli.main(command(folder, tmp_path / "w", PROMPTED, *more[2:])) == 2  # another run's
    assert "holds a run of other labels" in capsys.readouterr().err


def test_an_encoder_of_images_is_shown_prompts_as_well(folder, tmp_path, monkeypatch):
    """EchoApex, whose patches divide no power of two."""
    monkeypatch.setattr(labelled_frames, "LEAST", 8)
    apex.write(tmp_path / "model", 2)
    more = (PROMPTED, f"--model={tmp_path / 'model'}", "--config.epochs=1", "--config.frames=2",
            "--config.mode=adapter", "--config.adapter=8")  # fmt: skip
    assert cli.main(command(folder, tmp_path / "w", *more)) == 0
    head = tmp_path / "w" / "pretrained" / "head"
    assert (head / "modeling_echoapex.py").exists()
    model = EchoFMInteractive.from_pretrained(head)
    assert model.encoder.blocks[0].mlp.up.weight.any()  # it learned, and is kept
    session = model.open(folder / "clips" / "0.npy", 3, precropped=True)
    assert session.click(4, 5).mask.shape == (28, 28)
    card = (head / "README.md").read_text()
    assert "# EchoApex head: interactive segmentation" in card
