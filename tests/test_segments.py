import numpy as np
import pytest

from data_pipelines import records, segments
from data_pipelines.clip import Rejected
from data_pipelines.labels import Label

TEXTS = {
    "fps_source": "labels",
    "mode": "b_mode",
    "clip_id": "0" * 16,
    "patient_id": "1" * 16,
}


def clip(count, colour=False):
    """Frames that know their number, [T, 8, 16(, 3)]."""
    frames = np.zeros((count, 8, 16, *((3,) if colour else ())), np.uint8)
    frames[:, 0, 0] = (np.arange(count) % 256).reshape(-1, *((1,) if colour else ()))
    frames[:, 1, 1] = (np.arange(count) // 256).reshape(-1, *((1,) if colour else ()))
    return frames


def cut(count, label=None, times=None, **options):
    sector = np.eye(8, 16, dtype=bool)
    label = label or Label()
    options = {"encoding": "zstd"} | TEXTS | options
    return list(segments.make_records(clip(count), sector, times, label, **options))


def decoded(record):
    out = np.zeros((len(record["frames"]), 8, 16), np.uint8)
    for data, frame in zip(record["frames"], out, strict=True):
        records.decode_frame(data, "zstd", frame)
    return out


@pytest.mark.parametrize(
    ("count", "parts"), [(2, 1), (128, 1), (129, 2), (256, 2), (257, 3), (1000, 8)]
)
def test_no_frame_is_lost_or_doubled(count, parts):
    made = cut(count)
    lengths = [len(record["frames"]) for record in made]
    assert len(made) == parts and max(lengths) <= 128 and max(lengths) - min(lengths) <= 1
    assert np.array_equal(np.concatenate([decoded(record) for record in made]), clip(count))
    assert [record["segment"] for record in made] == list(range(parts))
    assert {record["segments"] for record in made} == {parts}


@pytest.mark.parametrize(
    ("rate", "count", "parts"),
    [(30, 128, 1), (30, 129, 2), (80, 320, 1), (80, 330, 2), (100, 399, 1), (400, 1030, 3)],
)
def test_a_fast_clip_is_cut_by_time_so_that_each_part_holds_two_seconds(rate, count, parts):
    made = cut(count, times=np.arange(count) / rate)
    assert len(made) == parts
    if rate <= 100:
        assert all(record["times"][-1] >= 2 or parts == 1 for record in made)
    assert max(len(record["frames"]) for record in made) <= records.MAX_FRAMES


def test_labels_are_cut_along():
    phase = tuple((np.arange(300) / 37 % 1).tolist())
    label = Label(
        view="PLAX", phase=phase, end_diastole=(0, 99, 100, 299), end_systole=(150,),
        ejection_fraction=55, rhythm="bigeminy",
    )  # fmt: skip
    made = cut(300, label)
    assert np.allclose(np.concatenate([record["phase"] for record in made]), phase)
    assert [len(record["phase"]) for record in made] == [100, 100, 100]
    assert [record["end_diastole"].tolist() for record in made] == [[0, 99], [0], [99]]
    assert [record["end_systole"].tolist() for record in made] == [[], [50], []]
    assert all(record["view"] == "PLAX" and record["ejection_fraction"] == 55 for record in made)
    assert {record["rhythm"] for record in made} == {"bigeminy"}


def test_times_restart_and_keep_their_steps():
    times = np.concatenate([[0], np.cumsum(np.linspace(0.01, 0.05, 299))])
    made = cut(300, times=times)
    for number, record in enumerate(made):
        own = times[100 * number : 100 * number + 100]
        assert record["times"][0] == 0
        assert np.allclose(np.diff(record["times"]), np.diff(own), atol=1e-6)
        assert record["fps"] == pytest.approx(99 / (own[-1] - own[0]), rel=1e-5)


def test_masks_go_with_their_frames_and_r_waves_with_their_times():
    maps = {i: np.full((8, 16), i % 6, np.uint8) for i in (0, 99, 100, 250)}
    times = np.arange(300) / 25
    made = cut(300, Label(measurements=(("lvid_d", 4.5),)), times, masks=maps, r_waves=(1.0, 5.0))
    assert [record["mask_frames"].tolist() for record in made] == [[0, 99], [0], [50]]
    first = records.zstandard.ZstdDecompressor().decompress(made[0]["masks"][1])
    assert first == (maps[99] * np.eye(8, 16, dtype=np.uint8)).tobytes()  # sector only
    assert [record["r_waves"].tolist() for record in made] == [[1.0], [1.0], []]
    place = records.MEASUREMENTS.index("lvid_d")
    assert all(record["measurements"][place] == 4.5 for record in made)
    assert np.isnan(np.delete(made[0]["measurements"], place)).all()


def test_an_unknown_rate_stays_unknown():
    for record in cut(130):
        assert record["fps"] == 0 and len(record["times"]) == 0
        assert np.isnan(record["ejection_fraction"]) and len(record["phase"]) == 0


def test_all_fields_and_no_others():
    """What a segment holds is what the schema allows; the serializer takes it."""
    from data_pipelines import shards

    record = cut(3, times=np.arange(3) / 30)[0]
    assert set(record) == set(records.FEATURES)
    assert shards.identity(shards.serialize(record)) == ("1" * 16, "0" * 16, 0)
    bits = np.unpackbits(np.frombuffer(record["sector"], np.uint8))
    assert np.array_equal(bits.reshape(8, 16), np.eye(8, 16))


@pytest.mark.parametrize(
    ("label", "masked"),
    [
        (Label(phase=(0.0, 0.5)), {}),
        (Label(end_diastole=(3,)), {}),
        (Label(end_systole=(-1,)), {}),
        (Label(), {3: np.zeros((8, 16), np.uint8)}),
    ],
)
def test_labels_of_frames_that_are_not_there_are_refused(label, masked):
    with pytest.raises(Rejected, match=r"^label_mismatch: 3 frames, "):
        cut(3, label, masks=masked)


def test_a_still_is_a_record_of_one_frame():
    (record,) = cut(1)
    assert record["times"].tolist() == [0] and record["fps"] == 0
    assert len(record["frames"]) == record["segments"] == 1
