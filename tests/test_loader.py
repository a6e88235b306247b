"""The loader on real shards: small frames, real grain, real threads."""

import dataclasses
import json

import numpy as np
import pytest

from data_pipelines import clip_source, records, shards
from data_pipelines.loader import LoaderConfig, make_loader
from echofm_jax.errors import InputError

SIZE, FRAMES, RECORDS = 32, 20, 10
SECTOR = np.zeros((SIZE, SIZE), bool)
SECTOR[:, SIZE // 2 :] = True  # the right half: patches 2, 3, 6, 7, ... of 4 × 4


def example(number: int, encoding: str = "zstd", size: int = SIZE, fps: float = 30.0, **changes):
    """A record whose frame i is one grey level, 10 × number + i."""
    frames = [np.full((size, size), 10 * number + i, np.uint8) for i in range(FRAMES)]
    return {
        "frames": [records.encode_frame(frame, encoding) for frame in frames],
        "times": np.arange(FRAMES, dtype=np.float32) / np.float32(fps)
        if fps
        else np.zeros(0, "f4"),
        "fps": np.float32(fps),
        "fps_source": "option" if fps else "unknown",
        "mode": "b_mode",
        "sector": records.pack_sector(SECTOR),
        "clip_id": f"{number:016x}",
        "patient_id": f"{number:016x}",
        "segment": 0,
        "segments": 1,
        "view": "",
        "ejection_fraction": np.float32(np.nan),
        "phase": np.zeros(0, np.float32),
        "end_diastole": np.zeros(0, np.int32),
        "end_systole": np.zeros(0, np.int32),
    } | changes


def write(folder, examples, size=SIZE, encoding="zstd", colour=False) -> str:
    shards.write_dataset(folder, {"train": examples}, size=size, encoding=encoding, colour=colour)
    return str(folder)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return write(tmp_path_factory.mktemp("ds"), [example(n) for n in range(RECORDS)])


@pytest.fixture
def cfg(data_dir):
    return LoaderConfig(
        data_dir=data_dir, batch_size=4, frames=8, size=SIZE, patch=8, workers=2, seed=3
    )


def take(cfg, batches, state=None, **hosts):
    loader = make_loader(cfg, **hosts)
    if state is not None:
        loader.set_state(state)
    taken = [next(loader) for _ in range(batches)]
    loader.close()
    return taken


def joined(batches):
    return {key: np.concatenate([b[key] for b in batches]) for key in batches[0]}


def same(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[k], b[k], equal_nan=True) for k in a)


def by_record(batch):
    order = np.argsort(batch["index"], kind="stable")
    return {key: value[order] for key, value in batch.items()}


def test_batch_holds_what_the_model_reads(cfg):
    batch = take(cfg, 1)[0]
    assert batch["clip"].shape == (4, 8, SIZE, SIZE)
    assert batch["clip"].dtype == np.uint8
    assert batch["noise"].shape == (4, 16)
    assert batch["noise"].dtype == np.float32
    assert np.array_equal(batch["fps"], np.full(4, 30, np.float32))
    assert batch["valid"].all()
    # Consecutive frames of the record that `index` names.
    first = batch["clip"][:, 0, 0, 0]
    assert np.array_equal(batch["clip"][:, :, 5, 7], first[:, None] + np.arange(8))
    assert np.array_equal(first // 10 - batch["index"], (first - 10 * batch["index"]) // 10)
    assert (first >= 10 * batch["index"]).all()
    assert (first < 10 * batch["index"] + FRAMES).all()


def test_same_seed_same_batches_whatever_the_threads(cfg):
    one = take(dataclasses.replace(cfg, workers=1), 6)
    three = take(dataclasses.replace(cfg, workers=3), 6)
    assert all(same(a, b) for a, b in zip(one, three, strict=True))


def test_another_seed_gives_another_order_other_windows_and_masks(cfg):
    cfg = dataclasses.replace(cfg, batch_size=RECORDS)
    one, other = take(cfg, 1)[0], take(dataclasses.replace(cfg, seed=4), 1)[0]
    assert not np.array_equal(one["index"], other["index"])
    one, other = by_record(one), by_record(other)
    assert not np.array_equal(one["clip"], other["clip"])
    assert not np.isclose(one["noise"], other["noise"]).all(axis=1).any()


@pytest.mark.parametrize("hosts", [1, 2, 3])
def test_each_record_once_an_epoch(cfg, hosts):
    cfg = dataclasses.replace(cfg, batch_size=6)
    loaders = [make_loader(cfg, process_index=i, process_count=hosts) for i in range(hosts)]
    # 5 batches of 6 are 3 epochs of 10: the second batch and the fourth lie in two.
    batches = [joined([next(loader) for loader in loaders]) for _ in range(5)]
    assert len({json.dumps(loader.get_state()) for loader in loaders}) == 1
    index = np.concatenate([b["index"] for b in batches])
    assert np.array_equal(np.bincount(index, minlength=RECORDS), np.full(RECORDS, 3))
    if hosts == 1:
        epochs = index.reshape(3, RECORDS)
        assert np.array_equal(np.sort(epochs), np.tile(np.arange(RECORDS), (3, 1)))
        assert not np.array_equal(epochs[0], epochs[1])


def test_epochs_differ_in_window_and_mask(cfg):
    stream = joined(take(cfg, 5))
    epochs = [by_record({k: v[e : e + RECORDS] for k, v in stream.items()}) for e in (0, RECORDS)]
    assert not np.array_equal(epochs[0]["clip"], epochs[1]["clip"])
    assert not np.isclose(epochs[0]["noise"], epochs[1]["noise"]).all(axis=1).any()


def test_state_is_one_integer_and_resumes_exactly(cfg):
    loader = make_loader(cfg)
    for _ in range(3):
        next(loader)
    state = json.loads(json.dumps(loader.get_state()))
    assert [type(value) for value in state.values()] == [int]
    rest = [next(loader) for _ in range(4)]
    resumed = take(cfg, 4, state)
    assert all(same(a, b) for a, b in zip(rest, resumed, strict=True))
    loader.set_state(state)
    assert same(next(loader), rest[0])


def test_two_hosts_resume_as_one_and_as_four(cfg):
    two = [make_loader(cfg, process_index=i, process_count=2) for i in range(2)]
    [(next(two[0]), next(two[1])) for _ in range(2)]
    state = two[0].get_state()
    rest = [joined([next(loader) for loader in two]) for _ in range(3)]
    alone = take(cfg, 3, state)
    four = [take(cfg, 3, state, process_index=i, process_count=4) for i in range(4)]
    four = [joined(list(batches)) for batches in zip(*four, strict=True)]
    for a, b, c in zip(rest, alone, four, strict=True):
        assert same(by_record(a), by_record(b))
        assert same(by_record(a), by_record(c))


def test_split_of_several_shards_reads_as_one(cfg, tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "SHARD_BYTES", 1500)
    folder = write(tmp_path / "ds", [example(n) for n in range(RECORDS)])
    assert len(list((tmp_path / "ds").rglob("*.array_record-*"))) > 2
    batches = zip(take(cfg, 3), take(dataclasses.replace(cfg, data_dir=folder), 3), strict=True)
    assert all(same(a, b) for a, b in batches)


def test_data_set_smaller_than_the_batch_is_repeated(cfg):
    batch = take(dataclasses.replace(cfg, batch_size=3 * RECORDS), 1)[0]
    assert np.array_equal(np.bincount(batch["index"]), np.full(RECORDS, 3))


def test_evaluation_sees_each_record_once_in_order_and_marks_the_filling(cfg):
    cfg = dataclasses.replace(cfg, shuffle=False, num_epochs=1)
    stream = joined(list(make_loader(cfg)))
    assert stream["index"].tolist() == [*range(RECORDS), 0, 1]
    assert stream["valid"].tolist() == [True] * RECORDS + [False] * 2
    assert np.array_equal(stream["clip"][:, 0, 0, 0] - 10 * stream["index"], np.full(12, 6))
    assert same(stream, joined(list(make_loader(dataclasses.replace(cfg, seed=3)))))


def test_window_in_seconds_follows_the_clip_rate(cfg, tmp_path):
    folder = write(tmp_path / "ds", [example(0, fps=50.0), example(1, fps=0.0)])
    cfg = dataclasses.replace(
        cfg, data_dir=folder, batch_size=2, window_seconds=0.32, assumed_fps=25.0, shuffle=False,
        labels=True,
    )  # fmt: skip
    batch = take(cfg, 1)[0]
    assert np.array_equal(np.diff(batch["frame_index"][0]), np.full(7, 2))  # 25 samples/s of 50
    assert np.array_equal(np.diff(batch["frame_index"][1]), np.full(7, 1))
    assert np.allclose(batch["fps"], [25, 0])  # the second clip's rate was only assumed
    assert np.array_equal(batch["clip"][0, :, 0, 0], batch["frame_index"][0])


def test_short_clip_wraps_and_slow_clip_repeats_frames(cfg, tmp_path):
    folder = write(tmp_path / "ds", [example(0, fps=10.0), example(1, fps=40.0)])
    cfg = dataclasses.replace(
        cfg, data_dir=folder, batch_size=2, frames=32, window_seconds=0.8, shuffle=False,
        labels=True,
    )  # fmt: skip
    batch = take(cfg, 1)[0]  # 40 samples/s; 2 s and 0.5 s held
    assert len(set(batch["frame_index"][0])) in (8, 9)
    assert batch["frame_index"][1].tolist() == [*range(20), *range(12)]
    shown = batch["clip"][:, :, 0, 0] - np.array([[0], [10]], np.uint8)
    assert np.array_equal(shown, batch["frame_index"])


def test_labels_follow_the_window(cfg, tmp_path):
    phase = (np.arange(FRAMES) / 12 % 1).astype(np.float32)
    labelled = example(1, phase=phase, view="PLAX", ejection_fraction=np.float32(55))
    folder = write(tmp_path / "ds", [example(0), labelled])
    batch = by_record(
        take(dataclasses.replace(cfg, data_dir=folder, batch_size=2, labels=True), 1)[0]
    )
    assert np.isnan(batch["phase"][0]).all()
    assert np.array_equal(batch["phase"][1], phase[batch["frame_index"][1]])
    assert np.array_equal(batch["clip"][1, :, 0, 0], 10 + batch["frame_index"][1])
    assert [records.VIEWS[v] for v in batch["view"]] == ["", "PLAX"]
    assert np.isnan(batch["ejection_fraction"][0])
    assert batch["ejection_fraction"][1] == 55
    assert batch["phase"].dtype == batch["ejection_fraction"].dtype == np.float32


@pytest.mark.parametrize(
    "masking, shape",
    [("consistent", (16,)), ("sector", (16,)), ("uniform_frame", (2, 16)), ("random", (32,))],
)
def test_noise_has_the_shape_of_its_masking(cfg, masking, shape):
    noise = take(dataclasses.replace(cfg, masking=masking), 1)[0]["noise"]
    assert noise.shape == (4, *shape)
    if masking == "sector":
        outside = np.tile([True, True, False, False], 4)
        assert (noise[:, outside] >= 1).all()
        noise = noise[:, ~outside]
    assert noise.min() >= 0
    assert noise.max() < 1
    assert len(np.unique(noise)) == noise.size


def test_sector_masking_shows_patches_of_the_sector_first(cfg):
    from echofm_jax.masking import split_tokens

    noise = take(dataclasses.replace(cfg, masking="sector"), 1)[0]["noise"]
    visible, _ = split_tokens(noise, "sector", 2, 0.5)  # 8 of 16: all that the sector has
    assert set(np.asarray(visible)[0] % 16 % 4) == {2, 3}


@pytest.mark.parametrize("encoding", ["jpeg", "zstd"])
def test_larger_frames_are_reduced_by_area(cfg, tmp_path, encoding):
    yy, xx = np.mgrid[: 2 * SIZE, : 2 * SIZE]
    fine = np.where((yy + xx) % 2, 60, 180).astype(np.uint8)  # averages to 120
    frames = [records.encode_frame(fine, encoding)] * FRAMES
    sector = records.pack_sector(np.kron(SECTOR, np.ones((2, 2), bool)))
    folder = write(tmp_path / "ds", [example(0, frames=frames, sector=sector)], 2 * SIZE, encoding)
    cfg = dataclasses.replace(cfg, data_dir=folder, masking="sector", batch_size=1)
    batch = take(cfg, 1)[0]
    assert batch["clip"].shape == (1, 8, SIZE, SIZE)
    assert np.abs(batch["clip"].astype(int) - 120).max() <= 2
    assert np.array_equal(batch["noise"][0] >= 1, np.tile([True, True, False, False], 4))


def test_colour_data_set_gives_colour_clips(cfg, tmp_path):
    red = np.zeros((SIZE, SIZE, 3), np.uint8)
    red[..., 0] = 200
    frames = [records.encode_frame(red, "jpeg")] * FRAMES
    folder = write(tmp_path / "ds", [example(0, frames=frames)], encoding="jpeg", colour=True)
    clip = take(dataclasses.replace(cfg, data_dir=folder, batch_size=1), 1)[0]["clip"]
    assert clip.shape == (1, 8, SIZE, SIZE, 3)
    assert np.abs(clip[0, 0, 0, 0].astype(int) - [200, 0, 0]).max() <= 3


@pytest.mark.parametrize("encoding", ["jpeg", "zstd"])
def test_damaged_frame_is_named_by_record_not_by_path(cfg, tmp_path, encoding):
    damaged = example(1, encoding)
    damaged["frames"][10] = damaged["frames"][10][:-8]
    folder = write(tmp_path / "ds", [example(0, encoding), damaged], encoding=encoding)
    cfg = dataclasses.replace(cfg, data_dir=folder, batch_size=2, frames=20)
    with pytest.raises(InputError, match=r"shard echo_\S+, record 1, frame 10 ") as caught:
        take(cfg, 1)
    assert str(tmp_path) not in str(caught.value)


def test_damaged_shard_is_named_by_record_not_by_path(cfg, tmp_path, monkeypatch):
    monkeypatch.setattr(clip_source, "PAUSES", (0.01,))
    rng = np.random.default_rng(0)
    frames = [records.encode_frame(rng.integers(0, 256, (SIZE, SIZE), np.uint8), "zstd")] * FRAMES
    folder = write(tmp_path / "ds", [example(n, frames=frames) for n in range(2)])
    for shard in (tmp_path / "ds").rglob("*array_record-*"):
        data = bytearray(shard.read_bytes())
        data[1000:3000] = bytes(2000)
        shard.write_bytes(data)
    with pytest.raises(InputError, match=r"shard echo_\S+, record \d+ cannot") as caught:
        take(dataclasses.replace(cfg, data_dir=folder), 1)
    assert str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize(
    "changes, hosts, message",
    [
        ({"size": 64}, 1, "64.*32"),
        ({"batch_size": 5}, 2, "5.*2 host"),
        ({"frames": 10}, 1, "10 frames.*4"),
        ({"patch": 7}, 1, "32.*7"),
    ],
)
def test_impossible_shapes_are_refused(cfg, changes, hosts, message):
    with pytest.raises(InputError, match=message):
        make_loader(dataclasses.replace(cfg, **changes), process_count=hosts)
