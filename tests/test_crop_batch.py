"""The loader's batches of crops, on real shards; `test_loader` has what both kinds share."""

import dataclasses
import json

import numpy as np
import pytest
from test_loader import FRAMES, RECORDS, SECTOR, SIZE, by_record, example, joined, same, take, write

from data_pipelines import crop_batch, phantom, records
from data_pipelines.augment import Augment
from data_pipelines.clip_source import ClipSource
from data_pipelines.crop_looks import draw_looks
from data_pipelines.crop_masks import most_masked
from data_pipelines.crops import Crops, draw_rectangles
from data_pipelines.loader import LoaderConfig, make_loader
from echofm_jax.errors import InputError

CROPS = Crops(global_size=32, local_size=16, local_crops=4, patch=8)
PLAIN = dataclasses.replace(CROPS, gain=0, gamma=0, blur=0, speckle=0)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return write(tmp_path_factory.mktemp("ds"), [example(n) for n in range(RECORDS)])


@pytest.fixture
def cfg(data_dir):
    return LoaderConfig(data_dir=data_dir, batch_size=4, crops=CROPS, workers=2, seed=3)


def changed(cfg, **changes):
    return dataclasses.replace(cfg, crops=dataclasses.replace(cfg.crops, **changes))


def by_seed(batch):
    order = np.argsort(batch["seed"])
    return {key: value[order] for key, value in batch.items()}


def frames_of(batch):
    """The grey levels of plain crops, [b, 2 + n]: record and frame as `example` has them."""
    both = [batch[name].max(axis=(2, 3)) for name in ("global", "local")]
    return np.concatenate(both, 1)


def test_batch_holds_what_the_model_reads(cfg):
    batch = take(cfg, 1)[0]
    assert {name: (value.shape, value.dtype.name) for name, value in batch.items()} == {
        "global": ((4, 2, 32, 32), "uint8"), "local": ((4, 4, 16, 16), "uint8"),
        "mask": ((4, 2, 16), "bool"), "seed": ((4,), "uint32"), "index": ((4,), "int64"),
        "valid": ((4,), "bool"),
    }  # fmt: skip
    masked = batch["mask"].sum((1, 2))
    assert masked.min() >= 1 and masked.max() <= most_masked(16, CROPS.mask_ratio) == 8
    assert (batch["mask"].any(2).sum(1) == 1).all()
    assert len(np.unique(batch["seed"])) == 4


def test_crops_are_of_one_frame_of_the_record(cfg):
    plain = dataclasses.replace(cfg, crops=PLAIN, batch_size=RECORDS)
    batch = take(plain, 1)[0]
    shown = frames_of(batch)
    assert (shown == shown[:, :1]).all()
    assert (shown[:, 0] >= 10 * batch["index"]).all()
    assert (shown[:, 0] < 10 * batch["index"] + FRAMES).all()
    assert len(set((shown[:, 0] - 10 * batch["index"]).tolist())) > 4  # frames at random


def test_two_moments_are_two_views_where_asked_for(cfg):
    plain = changed(dataclasses.replace(cfg, crops=PLAIN, batch_size=8), other_frame=True)
    shown = frames_of(take(plain, 1)[0])
    assert (shown[:, 0] != shown[:, 1]).all()
    assert (shown[:, 2:4] == shown[:, :1]).all() and (shown[:, 4:] == shown[:, 1:2]).all()


@pytest.mark.parametrize("other_frame", [False, True])
def test_frames_of_a_record_lie_side_by_side_and_differ(cfg, other_frame):
    plain = dataclasses.replace(cfg, crops=PLAIN, batch_size=20, windows_per_record=4)
    loader = make_loader(changed(plain, other_frame=other_frame))
    batch = next(loader)
    assert list(loader.get_state().values()) == [5]  # records, not images
    loader.close()
    index = batch["index"].reshape(5, 4)
    assert (index == index[:, :1]).all() and len(set(index[:, 0])) == 5
    for record in frames_of(batch)[:, : 1 + other_frame].reshape(5, -1):
        assert len(set(record)) == 4 * (1 + other_frame)
    assert len(np.unique(batch["seed"])) == 20


def test_same_seed_same_batches_whatever_the_threads(cfg):
    one = take(dataclasses.replace(cfg, workers=1), 5)
    three = take(dataclasses.replace(cfg, workers=3), 5)
    assert all(same(a, b) for a, b in zip(one, three, strict=True))
    whole = dataclasses.replace(cfg, batch_size=RECORDS)
    batches = [*take(whole, 2), *take(dataclasses.replace(whole, seed=4), 1)]
    first, *others = map(by_record, batches)  # another epoch, and another seed
    for other in others:
        assert not np.isin(first["seed"], other["seed"]).any()
        for name in ("global", "local", "mask"):
            assert not np.array_equal(first[name], other[name])


def test_resumes_exactly_on_other_hosts(cfg):
    cfg = dataclasses.replace(cfg, batch_size=8, windows_per_record=2)
    whole = take(changed(cfg, other_frame=True), 5)  # 2 epochs of 10 records
    cfg = changed(cfg, other_frame=True)
    two = [make_loader(cfg, process_index=i, process_count=2) for i in range(2)]
    first = [joined([next(loader) for loader in two]) for _ in range(2)]
    (told,) = {json.dumps(loader.get_state()) for loader in two}
    four = [take(cfg, 3, json.loads(told), process_index=i, process_count=4) for i in range(4)]
    rest = [joined(list(batches)) for batches in zip(*four, strict=True)]
    assert all(same(by_seed(a), by_seed(b)) for a, b in zip(first + rest, whole, strict=True))
    index = np.concatenate([batch["index"] for batch in first + rest])
    assert np.array_equal(np.bincount(index), np.full(RECORDS, 4))


def test_evaluation_sees_the_middle_frame_of_each_record_in_order(cfg):
    held_out = dataclasses.replace(
        cfg, crops=PLAIN, shuffle=False, num_epochs=1, windows_per_record=2
    )
    stream = joined(list(make_loader(held_out)))
    assert stream["index"].tolist() == [*range(RECORDS), 0, 1]
    assert stream["valid"].tolist() == [True] * RECORDS + [False] * 2
    assert (frames_of(stream) == (10 * stream["index"] + FRAMES // 2)[:, None]).all()


def test_labels_are_those_of_the_frame(cfg, tmp_path):
    phase = (np.arange(FRAMES) / 12 % 1).astype(np.float32)
    folder = write(tmp_path / "ds", [example(1, phase=phase, view="PLAX")])
    batch = take(dataclasses.replace(cfg, data_dir=folder, crops=PLAIN, labels=True), 1)[0]
    assert np.array_equal(batch["phase"], phase[batch["frame_index"]])
    assert np.array_equal(frames_of(batch)[:, :1], 10 + batch["frame_index"])
    assert [records.VIEWS[view] for view in batch["view"]] == ["PLAX"] * 4


def test_stills_are_welcome(cfg, tmp_path):
    still = example(1, times=np.zeros(0, "f4"))
    still["frames"] = still["frames"][:1]
    folder = write(tmp_path / "ds", [still])
    cfg = dataclasses.replace(cfg, data_dir=folder, crops=PLAIN, windows_per_record=2)
    assert (frames_of(take(changed(cfg, other_frame=True), 1)[0]) == 10).all()


def test_only_the_frames_shown_are_decoded_and_bad_ones_passed_over(cfg, tmp_path, caplog):
    half = [example(n) for n in range(4)]
    for one in half:
        one["frames"][: FRAMES // 2] = [b"no frame"] * (FRAMES // 2)
    folder = write(tmp_path / "ds", half)
    cfg = dataclasses.replace(cfg, data_dir=folder)
    assert len(list(make_loader(dataclasses.replace(cfg, shuffle=False, num_epochs=1)))) == 1
    with pytest.raises(InputError, match=r"shard echo_\S+, record \d, frame \d cannot be decoded"):
        take(cfg, 4)
    half[1]["frames"] = [b"no frame"] * FRAMES
    cfg = dataclasses.replace(cfg, data_dir=write(tmp_path / "one", half), shuffle=False)
    (batch,) = take(dataclasses.replace(cfg, max_bad_records=0.5), 1)
    assert batch["index"].tolist() == [0, 2, 2, 3]
    assert batch["valid"].tolist() == [True, False, True, True]
    assert "record 1, frame 10 cannot be decoded" in caplog.text


def test_colour_data_set_gives_colour_crops(cfg, tmp_path):
    red = np.zeros((SIZE, SIZE, 3), np.uint8)
    red[..., 0] = 200
    frames = [records.encode_frame(red, "jpeg")] * FRAMES
    folder = write(tmp_path / "ds", [example(0, frames=frames)], encoding="jpeg", colour=True)
    cfg = dataclasses.replace(cfg, data_dir=folder, batch_size=2)
    batch = take(dataclasses.replace(cfg, crops=PLAIN), 1)[0]
    assert batch["global"].shape == (2, 2, 32, 32, 3) and batch["local"].shape == (2, 4, 16, 16, 3)
    for name in ("global", "local"):
        lit = batch[name][batch[name][..., 0] > 0].astype(int)
        assert len(lit) and np.abs(lit - [200, 0, 0]).max() <= 3
    looks = take(changed(cfg, speckle_chance=(1, 1, 1)), 1)[0]["global"]
    assert looks[..., 0].std() > 10 and looks[..., 1:].max() <= 5


def test_larger_frames_are_cut_before_they_are_reduced(cfg, tmp_path):
    fine = np.random.default_rng(0).integers(0, 2, (8 * SIZE, 8 * SIZE)).astype(np.uint8) * 200
    frames = [records.encode_frame(fine, "zstd")] * FRAMES
    sector = records.pack_sector(np.ones_like(fine, bool))
    folder = write(tmp_path / "ds", [example(0, frames=frames, sector=sector)], 8 * SIZE)
    batch = take(dataclasses.replace(cfg, crops=PLAIN, data_dir=folder), 1)[0]
    assert batch["local"].mean() == pytest.approx(100, abs=5)
    assert 10 < batch["local"].std() < 40  # of areas; reduced before, all would be even
    one, other = batch["global"].transpose(1, 0, 2, 3)
    assert all(not np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_an_unknown_sector_is_the_whole_frame(cfg, tmp_path):
    folder = write(tmp_path / "ds", [example(2, sector=b"")])
    batch = take(dataclasses.replace(cfg, crops=PLAIN, data_dir=folder), 1)[0]
    for pixels in (batch["global"], batch["local"]):
        assert (pixels == frames_of(batch)[:, :1, None, None]).all()  # nothing is black


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    folder = tmp_path_factory.mktemp("phantom")
    argv = ["--output", str(folder / "studies"), "--studies", "2", "--clips_per_study", "1",
            "--size", "120", "160", "--data_dir", str(folder / "data")]  # fmt: skip
    assert phantom.main(argv) == 0
    return str(folder / "data")


def test_crops_of_phantoms_lie_in_the_sector_and_are_black_around_it(phantoms):
    crops = Crops(blur_chance=(1, 1, 1), speckle_chance=(1, 1, 1))
    cfg = LoaderConfig(data_dir=phantoms, batch_size=1, crops=crops, shuffle=False)
    source, edges = ClipSource(phantoms, "train"), 0
    for seed in range(10 * len(source)):
        record = source[seed % len(source)]
        sector = records.unpack_sector(record.bytes_list("sector")[0], record.info.size)
        rng = np.random.default_rng(seed)
        draw_looks(crops, rng)
        rectangles = draw_rectangles(sector.view(np.uint8), crops, rng)
        room = crop_batch.empty(cfg, 1, colour=False)
        image = {name: pixels[0] for name, pixels in room.items()}
        crop_batch.read(record, np.random.default_rng(seed), cfg, image)
        cut = [*image["global"][0], *image["local"][0]]
        for crop, (x, y, w, h) in zip(cut, rectangles, strict=True):
            assert sector[y : y + h, x : x + w].mean() >= 0.5
            inside = np.zeros(crop.shape, bool)
            for shift in (-0.01, 0.01):  # a centre on the edge of two pixels may be of either
                centres = (np.arange(len(crop)) + 0.5) / len(crop)
                rows, columns = (low + centres * side + shift for low, side in ((y, h), (x, w)))
                inside |= sector[np.ix_(rows.astype(int), columns.astype(int))]
            assert not crop[~inside].any()
            assert (crop[inside] > 0).mean() > 0.5
            edges += not inside.all()
    assert edges > 10 * len(source)


@pytest.mark.parametrize(
    "changes, crops, message",
    [
        (
            {},
            {"global_size": 64},
            "global crops of 64 pixels: .* stores frames of 32 pixels",
        ),
        ({}, {"local_size": 40}, "local crops of 40 pixels: .* stores frames of 32 pixels"),
        ({}, {"local_size": 12}, "crops.local_size=12 is not divisible by crops.patch=8: choose"),
        ({"augment": Augment(gain=0.1)}, {}, "augment: crops have a gain and gamma of their own"),
        ({"batch_size": 3}, {}, "batch size 3: 2 host"),
    ],
)
def test_what_cannot_be_cut_is_refused_in_one_line(cfg, changes, crops, message):
    cfg = changed(dataclasses.replace(cfg, **changes), **crops)
    with pytest.raises(InputError, match=message) as caught:
        make_loader(cfg, process_count=2)
    assert "\n" not in str(caught.value)


def test_no_field_of_a_clip_counts(cfg):
    other = dataclasses.replace(cfg, frames=7, size=64, patch=5, masking="sector")
    assert same(take(cfg, 1)[0], take(other, 1)[0])


def test_the_sector_is_that_of_the_frames(cfg):
    batch = take(dataclasses.replace(cfg, batch_size=RECORDS), 1)[0]
    assert SECTOR.mean() == 0.5  # the right half: crops lie there
    assert ((batch["global"] > 0).mean((2, 3)) > 0.95).all()
