"""Which clips `echofm finetune` learns from, before any is read."""

import cv2
import discs
import numpy as np
import pytest

from data_pipelines import labelled_splits
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
