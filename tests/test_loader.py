"""The loader on real shards: small frames, real grain, real threads."""

import dataclasses
import json
import threading

import numpy as np
import pytest

from data_pipelines import clip_source, records, shards
from data_pipelines.augment import Augment
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


def test_six_epochs_over_changing_hosts_and_restarts_hold_each_record_six_times(cfg):
    cfg, state, found = dataclasses.replace(cfg, batch_size=12), None, []
    for hosts, batches in ((1, 1), (2, 2), (3, 1), (4, 1)):  # 5 batches of 12: 6 epochs of 10
        loaders = [make_loader(cfg, process_index=i, process_count=hosts) for i in range(hosts)]
        for loader in loaders:
            if state is not None:
                loader.set_state(state)
        found += [joined([next(loader) for loader in loaders]) for _ in range(batches)]
        (told,) = {json.dumps(loader.get_state()) for loader in loaders}
        state = json.loads(told)
        for loader in loaders:
            next(loader)  # more than was saved: a run that is killed
            loader.close()
    index = np.concatenate([batch["index"] for batch in found])
    assert np.array_equal(np.bincount(index), np.full(RECORDS, 6))
    alone = take(cfg, 5)
    assert all(same(by_clip(a), by_clip(b)) for a, b in zip(found, alone, strict=True))


def by_clip(batch):
    order = np.lexsort((batch["noise"][:, 0], batch["index"]))
    return {key: value[order] for key, value in batch.items()}


def test_windows_of_a_record_are_clips_side_by_side_that_differ(cfg):
    cfg = dataclasses.replace(cfg, batch_size=20, windows_per_record=2, labels=True)
    loader = make_loader(cfg)
    epochs = [next(loader) for _ in range(3)]
    assert list(loader.get_state().values()) == [30]  # records, not clips
    loader.close()
    for batch in epochs:
        pairs = batch["index"].reshape(10, 2)
        assert np.array_equal(pairs[:, 0], pairs[:, 1])
        assert np.array_equal(np.sort(pairs[:, 0]), np.arange(RECORDS))
        shown = batch["clip"][:, :, 0, 0] - 10 * batch["index"].astype(np.uint8)[:, None]
        assert np.array_equal(shown, batch["frame_index"])
        noise = batch["noise"].reshape(10, 2, 16)
        assert not np.isclose(noise[:, 0], noise[:, 1]).all(axis=1).any()
        starts = batch["frame_index"].reshape(10, 2, 8)[:, :, 0]
        assert (starts[:, 0] != starts[:, 1]).any()


def test_windows_of_a_record_resume_on_other_hosts(cfg):
    cfg = dataclasses.replace(cfg, batch_size=12, windows_per_record=3)
    whole = take(cfg, 5)  # 2 epochs of 10 records
    two = [make_loader(cfg, process_index=i, process_count=2) for i in range(2)]
    first = [joined([next(loader) for loader in two]) for _ in range(2)]
    state = two[1].get_state()
    four = [take(cfg, 3, state, process_index=i, process_count=4) for i in range(4)]
    rest = [joined(list(batches)) for batches in zip(*four, strict=True)]
    assert all(same(by_clip(a), by_clip(b)) for a, b in zip(first + rest, whole, strict=True))
    index = np.concatenate([batch["index"] for batch in first + rest])
    assert np.array_equal(np.bincount(index), np.full(RECORDS, 6))


def test_evaluation_takes_one_window_a_record_and_changes_nothing(cfg):
    cfg = dataclasses.replace(cfg, shuffle=False, num_epochs=1)
    strong = Augment(scale=0.3, rotate=20, gain=0.5, gamma=0.5, speed=1.0)
    other = dataclasses.replace(cfg, windows_per_record=2, augment=strong)
    plain = joined(list(make_loader(cfg)))
    assert same(plain, joined(list(make_loader(other))))


def test_augmentation_is_of_the_clip_whatever_the_hosts(cfg):
    augment = Augment(scale=0.3, rotate=20, gain=0.5, gamma=0.5, speed=0.5)
    cfg = dataclasses.replace(cfg, batch_size=8, augment=augment, masking="sector", labels=True)
    alone = take(cfg, 2)
    two = [take(cfg, 2, process_index=i, process_count=2) for i in range(2)]
    two = [joined(list(batches)) for batches in zip(*two, strict=True)]
    assert all(same(by_clip(a), by_clip(b)) for a, b in zip(alone, two, strict=True))
    plain = take(dataclasses.replace(cfg, augment=Augment()), 1)[0]
    assert not np.array_equal(alone[0]["clip"], plain["clip"])
    for clip, noise in zip(alone[0]["clip"], alone[0]["noise"], strict=True):
        # `sector` masking follows the sector to where it is now.
        patches = clip.max(axis=0).reshape(4, 8, 4, 8) > 0
        share = patches.mean(axis=(1, 3)).reshape(-1)  # of each patch that shows something
        assert (noise[share < 0.3] >= 1).all()
        assert (noise[share > 0.7] < 1).all()


def test_speed_changes_the_window_and_its_rate(cfg):
    cfg = dataclasses.replace(cfg, batch_size=RECORDS, frames=8, augment=Augment(speed=1.0))
    batch = take(dataclasses.replace(cfg, labels=True), 1)[0]
    step = np.diff(batch["frame_index"]) % FRAMES
    assert np.allclose(batch["fps"] * step.mean(axis=1), 30, rtol=0.15)
    assert batch["fps"].min() < 25 < 35 < batch["fps"].max()
    shown = 10 * batch["index"][:, None] + batch["frame_index"]
    assert np.array_equal(batch["clip"][:, :, 0, 0], shown)


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
    measured = np.full(len(records.MEASUREMENTS), np.nan, np.float32)
    measured[records.MEASUREMENTS.index("lvid_d")] = 4.5
    labelled = example(1, phase=phase, view="PLAX", rhythm="sinus",
                       ejection_fraction=np.float32(55), measurements=measured,
                       aortic_stenosis=2)  # fmt: skip
    folder = write(tmp_path / "ds", [example(0), labelled])
    batch = by_record(
        take(dataclasses.replace(cfg, data_dir=folder, batch_size=2, labels=True), 1)[0]
    )
    assert np.isnan(batch["phase"][0]).all()
    assert np.array_equal(batch["phase"][1], phase[batch["frame_index"][1]])
    assert np.array_equal(batch["clip"][1, :, 0, 0], 10 + batch["frame_index"][1])
    assert [records.VIEWS[v] for v in batch["view"]] == ["", "PLAX"]
    assert [records.RHYTHMS[r] for r in batch["rhythm"]] == ["", "sinus"]
    assert batch["view"].dtype == batch["rhythm"].dtype == np.int32
    assert np.isnan(batch["ejection_fraction"][0])
    assert batch["ejection_fraction"][1] == 55
    assert batch["measurements"].shape == (2, 8) and batch["measurements"].dtype == np.float32
    assert np.isnan(batch["measurements"][0]).all()
    assert np.array_equal(batch["measurements"][1], measured, equal_nan=True)
    assert batch["aortic_stenosis"].tolist() == [-1, 2]
    assert batch["aortic_regurgitation"].tolist() == [-1, -1]
    assert batch["aortic_stenosis"].dtype == np.int32
    assert batch["phase"].dtype == batch["ejection_fraction"].dtype == np.float32


@pytest.mark.parametrize(("name", "word"), [("view", "A9C"), ("rhythm", "flutter")])
def test_a_record_of_an_unknown_word_is_a_bad_one(cfg, tmp_path, name, word):
    folder = write(tmp_path / "ds", [example(0), example(1, **{name: word})])
    labelled = dataclasses.replace(cfg, data_dir=folder, batch_size=2, labels=True)
    with pytest.raises(InputError, match=f"record 1 names no known {name}"):
        take(labelled, 1)
    (batch,) = take(dataclasses.replace(labelled, max_bad_records=1.0), 1)
    assert sorted(batch["valid"]) == [False, True]


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


@pytest.fixture
def damaged(cfg, tmp_path, monkeypatch):
    """Twenty records, of which number 7 cannot be read and number 8 not be decoded."""
    monkeypatch.setattr(clip_source, "PAUSES", (0.01,))
    noisy = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE), np.uint8)
    frame = records.encode_frame(noisy, "zstd")
    examples = [example(n) for n in range(20)]
    examples[7]["frames"] = [frame] * FRAMES
    examples[8]["frames"] = [b"no frame"] * FRAMES
    folder = write(tmp_path / "ds", examples)
    (shard,) = (tmp_path / "ds").rglob("*array_record-*")
    data = bytearray(shard.read_bytes())
    where = data.index(frame)
    data[where : where + 100] = bytes(100)
    shard.write_bytes(data)
    return dataclasses.replace(cfg, data_dir=folder, batch_size=4, max_bad_records=0.1)


def test_bad_records_are_passed_over_told_once_and_counted(damaged, caplog):
    loader = make_loader(damaged)
    epochs = [joined([next(loader) for _ in range(5)]) for _ in range(3)]
    loader.close()
    for epoch in epochs:
        expected = np.ones(20)
        expected[[7, 8, 9]] = [0, 0, 3]  # 9 stands in for both
        assert np.array_equal(np.bincount(epoch["index"], minlength=20), expected)
        assert epoch["index"][~epoch["valid"]].tolist() == [9, 9]
    assert loader.bad_records in (6, 7, 8)  # threads are ahead
    assert caplog.text.count("record 7 cannot be read") == 1
    assert caplog.text.count("record 8, frame") == 1
    assert damaged.data_dir not in caplog.text
    two = [take(damaged, 15, process_index=i, process_count=2) for i in range(2)]
    two = [joined(list(batches)) for batches in zip(*two, strict=True)]
    alone = take(damaged, 15)
    assert all(same(by_clip(a), by_clip(b)) for a, b in zip(alone, two, strict=True))


def test_more_bad_records_than_allowed_end_the_run(damaged):
    with pytest.raises(InputError, match=r"2 of \d+ records could not be read.*0.09 of 20"):
        take(dataclasses.replace(damaged, max_bad_records=0.09), 6)
    with pytest.raises(InputError, match=r"shard echo_\S+, record [78]"):
        take(dataclasses.replace(damaged, max_bad_records=0.0), 6)


def test_one_bad_record_does_not_end_a_run_on_few(cfg, tmp_path):
    bad = example(1) | {"frames": [b"no frame"] * FRAMES}
    folder = write(tmp_path / "ds", [example(0), bad])
    cfg = dataclasses.replace(cfg, data_dir=folder, batch_size=2, max_bad_records=0.001)
    assert not joined(take(cfg, 20))["index"].any()
    cfg = dataclasses.replace(cfg, data_dir=write(tmp_path / "none", [bad, bad]))
    with pytest.raises(InputError, match="no record of split 'train' can be read"):
        take(cfg, 1)


def test_a_read_that_fails_for_a_moment_is_tried_again(tmp_path, monkeypatch):
    monkeypatch.setattr(clip_source, "PAUSES", (0.3, 0.3))
    source = clip_source.ClipSource(write(tmp_path / "ds", [example(0)]), "train")
    (shard,) = (tmp_path / "ds").rglob("*array_record-*")
    away = shard.rename(tmp_path / "away")  # as on a file server that restarts
    threading.Timer(0.1, lambda: away.rename(shard)).start()
    assert source[0].index == 0
    shard.unlink()
    assert source[0].index == 0  # it is open
    source.parts[0].readers[0] = None
    with pytest.raises(InputError, match="record 0 cannot be read"):
        source[0]


@pytest.mark.parametrize(
    "changes, hosts, message",
    [
        ({"size": 64}, 1, "64.*32"),
        ({"batch_size": 5}, 2, "5.*2 host"),
        ({"batch_size": 12, "windows_per_record": 4}, 2, "12.*2 host.*4 windows.*multiple of 8"),
        ({"frames": 10}, 1, "10 frames.*4"),
        ({"patch": 7}, 1, "32.*7"),
    ],
)
def test_impossible_shapes_are_refused(cfg, changes, hosts, message):
    with pytest.raises(InputError, match=message):
        make_loader(dataclasses.replace(cfg, **changes), process_count=hosts)
