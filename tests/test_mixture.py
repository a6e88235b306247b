"""Mixtures of real data sets, through the loader."""

import collections
import json

import numpy as np
import pytest
from test_loader import SIZE, example, joined, take, write

from data_pipelines import mixture, records, shards
from data_pipelines.clip_source import ClipSource
from data_pipelines.loader import LoaderConfig, make_loader
from echofm_jax.errors import InputError

VIEWS = ("A4C", "PLAX", "A4C", "PSAX")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Set `a`: 12 zstd records of several views; `b`: 5 jpeg records, twice as large."""
    root = tmp_path_factory.mktemp("mix")
    modes = ("b_mode", "b_mode", "contrast")
    write(root / "a", [example(n, view=VIEWS[n % 4], mode=modes[n % 3]) for n in range(12)])
    large = {"sector": records.pack_sector(np.ones((2 * SIZE, 2 * SIZE), bool))}
    examples = [example(12 + n, "jpeg", 2 * SIZE, view="A4C", **large) for n in range(5)]
    held_out = [example(17 + n, "jpeg", 2 * SIZE, view="A4C", **large) for n in range(2)]
    splits = {"train": examples, "val": held_out}
    shards.write_dataset(root / "b", splits, size=2 * SIZE, encoding="jpeg")
    return root


def mixed(folder, *parts) -> str:
    path = folder / "mixture.json"
    path.write_text(json.dumps(parts))
    return str(path)


def config(data_dir, **changes):
    return LoaderConfig(
        **{"data_dir": data_dir, "batch_size": 4, "frames": 8, "size": SIZE, "patch": 8,
           "workers": 2, "seed": 3} | changes
    )  # fmt: skip


def test_parts_of_other_size_and_encoding_are_read_as_one(folder):
    data_dir = mixed(folder, {"dir": "a"}, {"dir": "b"})
    info = mixture.dataset_info(data_dir)
    assert (info.size, info.encoding) == (SIZE, "jpeg+zstd")
    assert info.records == {"train": 17, "val": 2}
    epoch = joined(take(config(data_dir, batch_size=17), 1))
    assert np.array_equal(np.sort(epoch["index"]), np.arange(17))
    first = epoch["clip"][:, 0, 5, 7].astype(int) - 10 * epoch["index"]
    assert ((first >= -2) & (first < 14)).all()


def test_weights_are_exact_over_an_epoch_on_any_hosts_and_after_a_restart(folder):
    data_dir = mixed(folder, {"dir": "a", "weight": 1}, {"dir": "b", "weight": 3})
    cfg = config(data_dir, batch_size=12)
    whole = np.concatenate([batch["index"] for batch in take(cfg, 17)])  # 12 epochs of 17
    for epoch in whole.reshape(12, 17):
        assert np.bincount(epoch // 12).tolist() == [4, 13]
    own = whole[whole >= 12]
    passes = own[: len(own) // 5 * 5].reshape(-1, 5)
    assert np.array_equal(np.sort(passes), np.tile(range(12, 17), (len(passes), 1)))
    found, state = [], None
    for hosts, batches in ((1, 5), (4, 3), (3, 2), (2, 7)):
        loaders = [make_loader(cfg, process_index=i, process_count=hosts) for i in range(hosts)]
        for loader in loaders:
            if state is not None:
                loader.set_state(state)
        for _ in range(batches):
            found.append(joined([next(loader) for loader in loaders])["index"])
        (state,) = {json.dumps(loader.get_state()) for loader in loaders}
        state = json.loads(state)
        for loader in loaders:
            loader.close()
    assert np.array_equal(np.sort(found), np.sort(whole.reshape(17, 12)))


def test_a_run_does_not_go_on_in_a_mixture_that_was_changed(folder):
    """Its position would be one among other clips."""
    parts = {"dir": "a", "weight": 1}, {"dir": "b", "view": "A4C", "weight": 3}
    data_dir = mixed(folder, *parts)
    known = json.loads(json.dumps({"global_next_index": 8} | mixture.told(data_dir)))
    mixture.refuse_changed(data_dir, known)
    mixture.refuse_changed(data_dir, {"global_next_index": 8})  # of a run before it was told
    mixture.refuse_changed(str(folder / "a"), known)  # to go on elsewhere is somebody's decision
    for changed in ({"weight": 2}, {"view": "PSAX"}, {"mode": "b_mode"}):
        mixed(folder, parts[0], parts[1] | changed)
        with pytest.raises(InputError, match="are not those that the run began with"):
            mixture.refuse_changed(data_dir, known)


def test_views_and_modes_choose_records_and_are_looked_for_once(folder, caplog):
    part = {"dir": "a", "view": ["A4C", "PSAX"], "mode": "b_mode"}
    data_dir = mixed(folder, part, {"dir": "b"})
    source = ClipSource(data_dir, "train")
    assert len(source) == mixture.dataset_info(data_dir).records["train"]
    found = collections.Counter()
    for i in range(len(source)):
        record = source[i]
        assert record.index == i
        words = [record.bytes_list(key)[0].decode() for key in ("view", "mode")]
        found[(record.info.encoding, *words)] += 1
    expected = {("zstd", "A4C", "b_mode"): 4, ("zstd", "PSAX", "b_mode"): 2}
    assert found == expected | {("jpeg", "A4C", "b_mode"): 5}
    assert caplog.text.count("looking for views") == 1
    assert [path.name for path in folder.rglob("*index*")] == ["index-train.json"]


def test_held_out_clips_are_of_all_parts_that_have_some_unweighted(folder):
    parts = {"dir": "a", "weight": 5}, {"dir": "b", "weight": 1}
    cfg = config(mixed(folder, *parts), split="val", shuffle=False, num_epochs=1, batch_size=2)
    stream = joined(list(make_loader(cfg)))
    assert stream["index"].tolist() == [0, 1]


@pytest.mark.parametrize(
    "parts, message",
    [
        ([], "a mixture is a list"),
        (["a"], 'part 0: needs a "dir"'),
        ([{"dir": "a", "wieght": 1}], "part 0: unknown key wieght: choose of dir"),
        ([{"dir": "a", "view": ["A4D"]}], "part 0: unknown view 'A4D': choose of A4C"),
        ([{"dir": "a", "mode": ["doppler"]}], "unknown mode 'doppler'"),
        ([{"dir": "a", "weight": 0}], "weight 0 must be a number above 0"),
        ([{"dir": "a", "weight": "2"}], "weight '2' must be"),
        ([{"dir": "a", "weight": 1}, {"dir": "b"}], "every part a weight, or none"),
        ([{"dir": "nothing"}], "no data set in .*nothing"),
        ([{"dir": "a", "view": ["SSN"]}], "no record of split 'train' has view SSN and mode any"),
        ([{"dir": "b", "weight": 1}, {"dir": "a", "weight": 1e-9}],
         "a: its weight gives it none of an epoch's 17"),
    ],
)  # fmt: skip
def test_what_is_no_mixture_is_refused(folder, parts, message):
    with pytest.raises(InputError, match=message):
        make_loader(config(mixed(folder, *parts)))


def test_colour_is_not_mixed_with_grey(folder, tmp_path):
    red = np.zeros((SIZE, SIZE, 3), np.uint8)
    frames = [records.encode_frame(red, "zstd")] * 20
    write(tmp_path / "c", [example(0, frames=frames)], colour=True)
    parts = {"dir": str(folder / "a")}, {"dir": "c"}
    with pytest.raises(InputError, match=r"mixes colour with grey: .*a \(grey\), .*c \(colour\)"):
        make_loader(config(mixed(tmp_path, *parts)))


def test_a_file_that_is_no_json_is_refused(tmp_path):
    path = tmp_path / "mixture.json"
    path.write_text("dir: a")
    with pytest.raises(InputError, match="is no mixture of data sets"):
        mixture.dataset_info(path)
