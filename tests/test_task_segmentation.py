"""A training of label maps from end to end: figures, files, a head that loads and answers."""

import csv
import dataclasses
import hashlib
import json
import stat
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from data_pipelines.labelled import LabelledClip, Pixels
from echofm_jax.errors import InputError
from echofm_jax.pytorch import EchoFM, EchoFMConfig, segmentation
from echofm_jax.pytorch.finetune_run import Run
from echofm_jax.pytorch.frame_training import rates
from echofm_jax.pytorch.labelled_frames import training_samples
from echofm_jax.pytorch.recipe import Recipe
from echofm_jax.pytorch.segmentation_head import EchoFMSegmenter
from echofm_jax.pytorch.segmentation_samples import find_frames
from echofm_jax.pytorch.task_segmentation import run_segmentation

TINY = EchoFMConfig(
    frames=8, size=32, tubelet=2, patch=16, width=24, depth=2, heads=3,
    decoder_width=16, decoder_depth=1, decoder_heads=2, pred_frames=4, window_seconds=1.0,
)  # fmt: skip
STRUCTURES = ("background", "LV", "myocardium", "LA")


@dataclasses.dataclass(frozen=True)
class Drawn:
    """Reads a disc (LA) of its own place that moves; `labelled` frames have a mask."""

    number: int
    labelled: tuple[int, ...]

    def __call__(self, size: int, colour: bool) -> Pixels:
        rng = np.random.default_rng(self.number)
        rows, columns = np.mgrid[:size, :size]
        row, column = rng.uniform(10, 20, 2)
        maps = np.stack(
            [(rows - row - k / 4) ** 2 + (columns - column) ** 2 < 36 for k in range(9)]
        )
        noise = rng.integers(0, 40, maps.shape)
        frames = (noise + 150 * maps).astype(np.uint8)
        return Pixels(
            frames=np.repeat(frames[..., None], 3, -1) if colour else frames,
            sector=np.ones((size, size), bool),
            fps=8.0,
            spacing=np.float32([0.5, 0.5]) if self.number % 2 else np.full(2, np.nan, np.float32),
            masks={k: 3 * maps[k].astype(np.uint8) for k in self.labelled},
        )


def clips(numbers: range, labelled: tuple[int, ...] = (1, 4, 8)) -> tuple[LabelledClip, ...]:
    return tuple(
        LabelledClip(name=f"SECRET/{n}.avi", patient=f"p{n}", targets={}, read=Drawn(n, labelled))
        for n in numbers
    )


@pytest.fixture
def run(tmp_path: Path) -> Run:
    torch.manual_seed(0)
    model = tmp_path / "model"
    model.mkdir()
    save_file(EchoFM(TINY).state_dict(), model / "model.safetensors")
    architecture = vars(TINY).copy()
    window = architecture.pop("window_seconds")
    digest = hashlib.sha256((model / "model.safetensors").read_bytes()).hexdigest()
    described = {
        "architecture": architecture,
        "preprocessing": {"window_seconds": window},
        "sha256": {"model.safetensors": digest},
    }
    (model / "config.json").write_text(json.dumps(described))
    (tmp_path / "run").mkdir()
    splits = {"train": clips(range(6)), "val": clips(range(6, 8)), "test": clips(range(8, 12))}
    return Run(
        folder=tmp_path / "run", model=model, random=False, task="masks", target="masks",
        outputs=STRUCTURES, splits=splits, seen=(), seed=0, colour=False, device="cpu",
        recipe=Recipe(epochs=2, lr=1e-2, patience=0), cache=tmp_path / "cache", simulated=True,
    )  # fmt: skip


def test_a_training_ends_with_a_head_that_outlines_what_it_learned(run: Run):
    metrics = run_segmentation(run)
    assert metrics == json.loads((run.folder / "metrics.json").read_text()) | {
        "outputs": ("background", "LA")
    }
    assert metrics["scores"]["dice_LA"]["value"] > 0.9 > metrics["chance"]["dice_LA"]
    assert metrics["scores"]["dice"] == metrics["scores"]["dice_LA"]
    assert metrics["scores"]["hausdorff95_mm_LA"]["value"] < 3
    assert metrics["scores"]["hausdorff95_pixels_LA"]["value"] < 6
    assert metrics["frames"] == {"train": 18, "val": 6, "test": 12}
    assert metrics["missed"] == {"LA": 0}
    assert stat.S_IMODE((run.folder / "predictions.csv").stat().st_mode) == 0o600
    with (run.folder / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["frame"] for row in rows[:3]] == ["1", "4", "8"]
    assert rows[0]["file"] == "SECRET/8.avi"
    values = [float(row["dice_LA"]) for row in rows]
    assert np.mean(values) == pytest.approx(metrics["scores"]["dice_LA"]["value"], abs=1e-4)
    drawn = {path.name for path in (run.folder / "figures").iterdir()}
    assert drawn == {"overlays.png", "overlays-dark.png", "beating.gif", "beating-dark.gif"}
    with Image.open(run.folder / "figures" / "beating.gif") as gif:
        assert gif.n_frames == 9

    head = run.folder / "head"
    assert not any(b"SECRET" in path.read_bytes() for path in head.iterdir())
    assert {p.name for p in head.glob("*.py")} == {
        "modeling_echofm.py", "trained_echofm.py", "segmentation_head.py",
    }  # fmt: skip
    model = EchoFMSegmenter.from_pretrained(head)
    assert model.config.structures == ("background", "LA")
    pixels = Drawn(20, tuple(range(9)))(32, False)
    found = segmentation.label_frames(model, pixels.frames, pixels.fps)
    truth = np.stack(list(pixels.masks.values())) == 3
    assert 2 * (truth & (found == 1)).sum() / (truth.sum() + (found == 1).sum()) > 0.9


def test_clips_without_masks_are_left_out_and_a_split_without_any_is_refused(run: Run):
    frames = find_frames((*clips(range(2)), *clips(range(2, 4), ())), 32, False)
    assert [clip.patient for clip in frames.clips] == ["p0", "p1"]
    assert frames.each() == [(0, 1), (0, 4), (0, 8), (1, 1), (1, 4), (1, 8)]
    assert frames.each(2) == [(0, 1), (0, 8), (1, 1), (1, 8)]
    empty = dataclasses.replace(run, splits=dict(run.splits) | {"val": clips(range(2), ())})
    with pytest.raises(InputError, match="no val clip has one"):
        run_segmentation(empty)


def test_an_epoch_is_the_same_whenever_it_is_asked_for():
    frames = find_frames(clips(range(3)), 32, False)

    def epoch(number: int) -> list:
        found = training_samples(frames, TINY, batch=7, epoch=number, seed=1, colour=False)
        return [sample for batch in found for sample in batch]

    once, again, other = epoch(0), epoch(0), epoch(1)
    assert len(once) == 200  # a few clips many times
    assert all((a.clip == b.clip).all() for a, b in zip(once, again, strict=True))
    assert not all((a.clip == b.clip).all() for a, b in zip(once, other, strict=True))


def test_what_the_encoder_learns_it_learns_more_slowly_than_the_decoder(run: Run):
    from echofm_jax.pytorch.segmentation_head import SegmentationConfig

    model = EchoFMSegmenter(EchoFM(TINY), SegmentationConfig(structures=("background", "LV")))
    frozen = rates(model, Recipe(mode="frozen", lr=1.0))
    assert {p for g in frozen for p in g["params"]} == set(model.decoder.parameters())
    assert {g["lr"] for g in frozen} == {1.0}
    full = {p: g["lr"] for g in rates(model, Recipe(mode="full", lr=1.0)) for p in g["params"]}
    assert full[model.decoder.join.weight] == 1.0
    assert full[model.encoder.norm.weight] == pytest.approx(0.1)
    assert full[model.encoder.blocks[0].mlp.fc1.weight] == pytest.approx(0.1 * 0.75**2)
    put_in = EchoFMSegmenter(EchoFM(TINY), dataclasses.replace(model.config, adapter=4))
    groups = rates(put_in, Recipe(mode="adapter", lr=1.0))
    down = put_in.encoder.blocks[0].mlp.down.weight
    assert {g["lr"] for g in groups} == {1.0} and any(
        down is p for g in groups for p in g["params"]
    )
