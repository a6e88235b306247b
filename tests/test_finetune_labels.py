"""Which clips `echofm finetune` learns from, before any is read."""

import apex
import cv2
import discs
import numpy as np
import pytest

from data_pipelines import labelled_splits
from echofm_jax import cli
from echofm_jax.errors import InputError
from echofm_jax.pytorch import finetune, finetune_labels


@pytest.mark.parametrize("task", ["segmentation", "interactive_segmentation"])
def test_clips_without_masks_are_no_examinations_to_train_on(tmp_path, task):
    """Every second patient has a mask, in one of two views: `--studies` counts these alone."""
    discs.write_clips(
        tmp_path / "clips", view=lambda n: ("A4C", "A2C")[n % 2],
        mask=lambda n: "heart.png" if n % 4 == 0 else "", mask_frame=lambda n: 1,
    )  # fmt: skip
    cv2.imwrite(str(tmp_path / "clips" / "heart.png"), np.eye(32, dtype=np.uint8))
    argv = [f"--task={task}", "--model=none", f"--source={tmp_path / 'clips'}", "--workdir=w",
            f"--labels={tmp_path / 'clips' / 'labels.csv'}"]  # fmt: skip
    args, _ = finetune.parse(argv)
    found, clips = finetune_labels.read_labels(args, *finetune.TASKS[task])
    assert len(found.clips) == 24
    names = [f"anna{patient}/berta-{2 * patient}.npy" for patient in range(0, 12, 2)]
    assert [clip.name for clip in clips] == names
    train = labelled_splits.split_clips(clips, seed=0, target="masks")["train"]
    assert len(labelled_splits.few(train, 3, 0, target="masks")) == 3
    with pytest.raises(InputError, match="there are 3 to train on"):
        labelled_splits.few(train, 4, 0, target="masks")
    with pytest.raises(InputError, match="no clip has a mask"):
        finetune_labels.read_labels(
            finetune.parse([*argv, "--views", "A2C"])[0], *finetune.TASKS[task]
        )


@pytest.mark.parametrize(("kind", "patch"), [("echofm", 16), ("dinov2", 14)])
def test_a_size_that_the_patches_do_not_fit_is_refused_before_a_clip_is_read(
    tmp_path, capsys, kind, patch
):
    model = tmp_path / "model"
    if kind == "echofm":
        discs.write_encoder(model)
    else:
        apex.write(model)
    discs.write_clips(tmp_path / "clips")
    argv = ["finetune", "--task=classes", "--target=kind", f"--model={model}",
            f"--source={tmp_path / 'clips'}", f"--labels={tmp_path / 'clips' / 'labels.csv'}",
            f"--workdir={tmp_path / 'w'}", "--config.size=100", "--device=cpu"]  # fmt: skip
    assert cli.main(argv) == 2
    told = capsys.readouterr().err.strip().splitlines()[-1]
    assert f"--config.size=100: this model takes multiples of {patch} pixels" in told
    assert not (tmp_path / "w").exists()
    assert finetune_labels.shown_size(model, 0) == {"echofm": 32, "dinov2": 28}[kind]
    assert finetune_labels.shown_size(model, 2 * patch) == 2 * patch
