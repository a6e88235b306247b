import contextlib
import os

import numpy as np
import pytest
from test_sector import fan_screen
from test_staging import task
from test_volumes import mhd

from data_pipelines import records, shards, workers
from data_pipelines.labels import Label, Tracing
from data_pipelines.one_file import ingest_file, stamps


@pytest.fixture
def clip(tmp_path):
    path = tmp_path / "clip.npy"
    np.save(path, fan_screen(1).frames)
    return task(tmp_path)._replace(path=path, stamps=stamps(path, Label()))


def examples(task):
    outcome, held = ingest_file(task)
    assert not outcome.reason, outcome
    assert outcome.sizes == tuple(map(len, held))
    return outcome, [records.FEATURES.deserialize_example_np(data) for data in held]


def test_a_clip_becomes_records(clip):
    outcome, (example,) = examples(clip)
    assert (outcome.frames, outcome.mode, outcome.fps) == (16, "b_mode", 0.0)
    assert example["clip_id"].decode() == outcome.clip_id
    assert example["patient_id"].decode() == outcome.patient_id
    assert shards.identity(ingest_file(clip)[1][0]).segment == 0


def test_the_owners_split_is_handed_on(clip):
    assert examples(clip._replace(label=Label(split="test")))[0].split == "test"


def test_a_file_that_changes_while_it_is_read(clip):
    os.utime(clip.path, ns=(1, 1))
    outcome, held = ingest_file(clip)
    assert (outcome.reason, held) == ("changed", [])


def test_a_mask_that_changes_while_it_is_read(clip, tmp_path):
    label = Label(mask_files=(("masks.mhd", 3),))
    maps = np.zeros((1, *fan_screen(1).frames.shape[1:]), np.uint8)
    maps[:, 40:60, 40:60] = 1
    mhd(tmp_path / "masks.mhd", maps, ElementSpacing="1 1 1")
    masked = clip._replace(label=label, stamps=stamps(clip.path, label))
    assert examples(masked)[1][0]["mask_frames"].tolist() == [3]
    for name in ("masks.mhd", "masks.raw"):
        os.utime(tmp_path / name, ns=(1, 1))
        assert ingest_file(masked)[0].reason == "changed"
        masked = masked._replace(stamps=stamps(clip.path, label))


def test_too_little_memory_is_taken_again(clip):
    """A sparse file of 1 GiB, as large as a clip may be, where the process has no more itself."""
    with clip.path.open("wb") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": (1024, 1024, 1024)}
        np.lib.format.write_array_header_1_0(file, header)
        file.truncate(file.tell() + (1 << 30))
    with contextlib.closing(workers.Apart(1 << 20)) as apart:
        outcome, held = apart.run(ingest_file, clip)
    assert (outcome.reason, held) == ("failed", []) and "memory" in outcome.detail
    assert outcome.retried


def test_our_own_fault_is_an_outcome_that_names_nobody(clip):
    broken = clip._replace(label=Label(phase=("zyxwva",) * 16))  # no number: numpy refuses it
    outcome, held = ingest_file(broken)
    assert (outcome.reason, outcome.detail, held) == ("failed", "ValueError", [])


def test_tracings_become_masks(clip):
    height, width = fan_screen(1).frames.shape[1:]
    corners = [(0.4, 0.4), (0.6, 0.4), (0.6, 0.6), (0.4, 0.6)]
    outline = tuple((x * width, y * height) for x, y in corners)
    _, (example,) = examples(clip._replace(label=Label(tracings=(Tracing(3, "LV", outline),))))
    assert example["mask_frames"].tolist() == [3]
    mask = records.decode_mask(example["masks"][0], 32)
    assert set(np.unique(mask)) == {0, records.STRUCTURES.index("LV")}
