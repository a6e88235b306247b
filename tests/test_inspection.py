"""`echofm inspect` as its users run it: figures, damage by name, page, contact sheet, GIF."""

import base64
import io
import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
import small_echo
from conftest import REPO
from PIL import Image

from data_pipelines import (
    inspect_hash,
    inspect_page,
    inspect_pieces,
    inspect_scan,
    inspect_statistics,
    records,
    shards,
)
from data_pipelines.inspect_gif import playable
from data_pipelines.loader import LoaderConfig, make_loader
from echofm_jax import cli


def inspect(data, *more) -> int:
    return cli.main(["inspect", str(data), "--workers=1", *more])


def scanned(data):
    """What `echofm inspect` reads, in this process."""
    pieces, damages = inspect_pieces.cut(shards.dataset_folder(data))
    answers = [inspect_scan.scan_piece(piece) for piece in pieces]
    facts = np.concatenate([np.zeros(0, inspect_scan.FACTS), *(a[0] for a in answers)])
    return facts, [str(d) for d in damages] + [str(d) for a in answers for d in a[1]]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Six clips in train, one of them in two parts and one without a rate, and two in val."""
    long = small_echo.speckle(4, count=14)
    parts = [
        small_echo.example(4, frames=long[:9], segment=0, segments=2),
        small_echo.example(4, frames=long[9:], segment=1, segments=2),
    ]
    unknown = small_echo.example(5, seconds=None, view="", ejection_fraction=np.float32(np.nan))
    splits = {"train": [0, 1, 2, 3, *parts, unknown], "val": [6, 7]}
    return small_echo.write(tmp_path_factory.mktemp("inspect") / "data", splits)


def test_figures_page_and_sheet(data, tmp_path, capsys):
    assert inspect(data, f"--out={tmp_path / 'out'}", "--json") == 0
    said = capsys.readouterr()
    assert "inspect" in said.err and "9/9" in said.err  # the progress bar
    summary = json.loads(said.out.splitlines()[-1])
    assert (summary["clips"], summary["records"], summary["patients"]) == (8, 9, 4)
    assert summary["splits"] == {
        "train": {"records": 7, "clips": 6, "patients": 3},
        "val": {"records": 2, "clips": 2, "patients": 1},
    }
    assert summary["views"] == {"A4C": 4, "PLAX": 3, "unknown": 1}
    assert summary["rhythms"] == {"atrial_fibrillation": 3, "sinus": 3, "unknown": 2}
    assert summary["modes"] == {"b_mode": 8} and summary["frames"] == 84
    assert summary["labels"]["ejection_fraction"] == 7 and summary["labels"]["masks"] == 8
    assert summary["labels"]["phase"] == summary["labels"]["aortic_stenosis"] == 0
    rates = summary["histograms"]["fps"]
    assert (rates["known"], rates["unknown"]) == (7, 1) and sum(rates["counts"]) == 7
    assert rates["median"] == pytest.approx(40, rel=1e-4)
    lengths = summary["histograms"]["length_frames"]
    assert (lengths["min"], lengths["max"]) == (10, 14)
    assert summary["histograms"]["length_seconds"]["max"] == pytest.approx(14 / 40, rel=1e-3)
    coverage = summary["histograms"]["sector_coverage"]
    assert coverage["median"] == pytest.approx(small_echo.FAN.mean(), rel=1e-5)
    inside = np.mean([small_echo.speckle(n)[5][small_echo.FAN].mean() for n in range(4)])
    assert summary["histograms"]["brightness"]["median"] == pytest.approx(inside, rel=0.1)
    assert not summary["damage"] and not summary["duplicates"] and not summary["near_duplicates"]
    assert "8 clips of 4 patients" in said.out and "simulated" in said.out

    page = (tmp_path / "out" / "inspect.html").read_text()
    pictures = re.findall(r'src="([^"]*)"', page)
    assert len(pictures) == 2 and all(p.startswith("data:image/png;base64,") for p in pictures)
    assert not re.search(r"<script|<link|@import|url\(|https?:", page)
    assert page.count(inspect_page.PHANTOM) == 3  # on top, and over each figure
    sheet = tmp_path / "out" / "contact_sheet.png"
    assert base64.b64decode(pictures[0].split(",")[1]) == sheet.read_bytes()
    with Image.open(sheet) as image:
        image.load()
        assert not image.info.get("Software") and image.width > 500
    ids = {f"{number:016x}" for number in range(8)}
    assert str(data) not in page and not any(identifier in page for identifier in ids)


def test_the_sheet_shows_the_clips_and_labels_simulated_ones(data):
    facts, _ = scanned(data)
    figure = inspect_page.contact_sheet(shards.dataset_folder(data), facts, simulated=True)
    rows = [axis.get_ylabel() for axis in figure.axes]
    assert rows == ["train\nview unknown", "train\nA4C", "train\nPLAX", "val\nA4C", "val\nPLAX"]
    strip = figure.axes[1].images[0].get_array()
    shown = strip[:, : small_echo.SIZE, 0]
    assert np.abs(shown.astype(int) - small_echo.speckle(0)[5]).max() < 30  # JPEG
    texts = [text.get_text() for axis in figure.axes for text in axis.texts]
    assert len(texts) == 8 and all(re.fullmatch("[0-9a-f]{6}", text) for text in texts)
    assert inspect_page.PHANTOM in figure.get_suptitle()
    real = inspect_page.contact_sheet(shards.dataset_folder(data), facts, simulated=False)
    assert inspect_page.PHANTOM not in real.get_suptitle()


def put(name: str, value):
    """A change of one feature's values."""

    def edit(feature):
        stored = getattr(feature[name], feature[name].WhichOneof("kind")).value
        stored[:] = value if isinstance(value, list) else [value]

    return small_echo.edited(edit)


@pytest.fixture(scope="module")
def several(tmp_path_factory):
    """A data set of two shards in train and one in val, to be spoiled."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "SHARD_BYTES", 40_000)
        folder = tmp_path_factory.mktemp("several") / "data"
        return small_echo.write(folder, {"train": range(6), "val": [6, 7]})


def test_a_flipped_byte_names_its_record(several, tmp_path):
    data = small_echo.copy(several, tmp_path / "d")
    path = small_echo.shard(data, number=1)
    small_echo.flip(path, record=1)
    facts, damages = scanned(data)
    assert damages == [f"{path.name}, record 1: damaged (its checksum does not match)"]
    assert len(facts) == 7


def test_cut_and_missing_shards_and_wrong_counts_are_named(several, tmp_path, capsys):
    data = small_echo.copy(several, tmp_path / "d")
    first, second = small_echo.shard(data), small_echo.shard(data, number=1)
    first.write_bytes(first.read_bytes()[:70_000])
    second.unlink()
    info = shards.dataset_folder(data) / "echofm.json"
    small_echo.set_json(info, records={"train": 6, "val": 3})
    assert inspect(data) == 1
    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith("damage")]
    assert told == [
        "damage: split val: echofm.json counts 3 records, dataset_info.json 2",
        f"damage: {first.name}: cannot be opened: truncated or damaged",
        f"damage: {second.name}: missing",
    ]
    small_echo.rewrite_all(small_echo.shard(data, "val"), lambda stored: stored[:1])
    assert any("holds 1 records, the metadata say 2" in line for line in scanned(data)[1])


@pytest.mark.parametrize("kind", records.ENCODINGS)
@pytest.mark.parametrize("number", [0, 5, 9])
def test_every_frame_that_cannot_be_decoded_is_damage(tmp_path, kind, number):
    data = small_echo.write(tmp_path / "d", {"train": range(3)}, kind)

    def spoil(feature):
        stored = feature["frames"].bytes_list.value
        stored[number] = stored[number][:-9]

    small_echo.rewrite(data, 1, small_echo.edited(spoil))
    facts, damages = scanned(data)
    name = small_echo.shard(data).name
    assert damages == [f"{name}, record 1: damaged (frame {number} cannot be decoded)"]
    assert facts["record"].tolist() == [0, 2]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (put("masks", b"no map"), "mask 0 cannot be decoded"),
        (put("frames", []), f"0 frames, not 1 to {records.MAX_FRAMES}"),
        (put("clip_id", b"\xff" * 16), "clip_id is no hash of 16 hexadecimal digits"),
        (put("patient_id", b"\xff"), "patient_id is no hash of 16 hexadecimal digits"),
        (put("segments", 2**31 - 1), "segments is outside 1 to 4096"),
        (put("segment", 2**31 - 1), "segment is outside 0 to 4095"),
        (put("segment", -(2**63)), "segment is outside 0 to 4095"),
        (put("fps", float("nan")), "fps is outside 0 to 1000"),
        (put("times", [float("inf")] * 10), "times is outside 0 to 4096"),
        (put("sector", b"cut"), "sector has 3 bytes, not 512"),
        (lambda _: b"", "no feature aortic_regurgitation, "),
        (lambda _: b"junk", "not an example of the format"),
    ],
)
def test_a_record_that_makes_no_sense_is_damage_and_no_clip_to_show(
    several, tmp_path, capsys, change, told
):
    data = small_echo.copy(several, tmp_path / "d")
    small_echo.rewrite(data, 1, change)
    facts, (damage,) = scanned(data)
    assert damage.startswith(f"{small_echo.shard(data).name}, record 1: damaged ({told}")
    assert inspect_statistics.statistics(facts)["records"] == 7
    assert inspect(data, f"--out={tmp_path}", "--gif=train:1") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"echofm inspect: --gif train:1: a record of it is damaged ({told}")
    assert not list(tmp_path.glob("*.gif"))


def test_beside_a_record_that_tells_no_id_others_are_found_by_theirs(several, tmp_path, capsys):
    data = small_echo.copy(several, tmp_path / "d")
    small_echo.rewrite(data, 0, lambda _: b"junk")
    small_echo.rewrite(data, 1, put("clip_id", b"\xff" * 16))
    digits = f"{2:016x}"
    assert inspect(data, f"--out={tmp_path}", f"--gif={digits}") == 0
    assert [path.name for path in tmp_path.glob("*.gif")] == [f"clip-{digits[:6]}.gif"]


def test_a_clip_of_which_a_part_is_damaged_is_not_shown_as_if_it_were_whole(data, tmp_path, capsys):
    data = small_echo.copy(data, tmp_path / "d")
    small_echo.rewrite(data, 5, lambda _: b"junk")
    assert inspect(data, f"--out={tmp_path}", f"--gif={4:016x}") == 2
    assert "1 of its 2 records can be read" in capsys.readouterr().err.splitlines()[-1]


def test_numbers_at_the_edge_of_what_may_be_are_shown(several, tmp_path, capsys):
    data = small_echo.copy(several, tmp_path / "d")
    small_echo.rewrite(data, 0, put("times", [0.0] * 10))
    small_echo.rewrite(data, 1, put("fps", 1e-40))
    small_echo.rewrite(data, 1, put("times", [0.0, *[4000.0] * 9]))
    assert inspect(data, "--json", f"--out={tmp_path}") == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["seconds"] < 5000
    for which in ("train:0", "train:1"):
        assert inspect(data, f"--out={tmp_path}", f"--gif={which}") == 0


@pytest.mark.parametrize("text", ["view", "rhythm"])
def test_a_word_that_is_none_of_ours_is_not_repeated(several, tmp_path, text):
    data = small_echo.copy(several, tmp_path / "d")

    def name(feature):
        feature[text].bytes_list.value[0] = b"DOE^JANE"

    small_echo.rewrite(data, 0, small_echo.edited(name))
    assert scanned(data)[0][text][0] == b"not a " + text.encode()


def test_a_data_set_from_before_rhythms_has_none_that_is_known(several, tmp_path):
    data = small_echo.older(several, tmp_path / "d")
    facts, damages = scanned(data)
    assert damages == [] and set(facts["rhythm"]) == {b""}
    np.testing.assert_array_equal(facts["view"], scanned(several)[0]["view"])
    assert "rhythm" not in shards.open_split(data, "train")[0]  # TFDS reads it, too
    cfg = LoaderConfig(data_dir=str(data), batch_size=4, frames=4, size=64, labels=True)
    batch = next(make_loader(cfg))
    assert batch["rhythm"].tolist() == [0] * 4 and set(batch["view"]) == {1, 4}


def test_broken_metadata_are_one_line(several, tmp_path, capsys):
    data = small_echo.copy(several, tmp_path / "d")
    (shards.dataset_folder(data) / "dataset_info.json").write_text("{")
    assert inspect(data) == 2
    assert "dataset_info.json is missing or damaged" in capsys.readouterr().err
    assert inspect(tmp_path / "nowhere") == 2
    assert inspect(several, "--gif=train:0") == 2 and inspect(several, "--strict") == 2
    (tmp_path / "file").write_text("")
    assert inspect(several, f"--out={tmp_path / 'file'}") == 2
    assert "choose another folder" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("echofm.json", {"records": 5}),
        ("echofm.json", {"records": {"train": "6"}}),
        ("echofm.json", {"size": 10**12}),
        ("echofm.json", {"size": -1}),
        ("echofm.json", {"encoding": ["jpeg"]}),
        ("echofm.json", "[" * 100_000),
        ("dataset_info.json", "[" * 100_000),
        ("dataset_info.json", {"splits": [{"name": "\udcff", "shardLengths": ["6"]}]}),
        ("dataset_info.json", {"splits": [{"name": "DOE", "shardLengths": ["6"]}]}),
        ("dataset_info.json", {"splits": [{"name": "train", "shardLengths": [float("inf")]}]}),
    ],
)
def test_metadata_that_make_no_sense_are_one_line(several, tmp_path, capsys, name, content):
    data = small_echo.copy(several, tmp_path / "d")
    path = shards.dataset_folder(data) / name
    path.write_text(content) if isinstance(content, str) else small_echo.set_json(path, **content)
    assert inspect(data) == 2 and inspect(data, f"--out={tmp_path}", "--gif=train:0") == 2
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 2 and all(name in line and "damaged" in line for line in told)
    assert inspect(data, "--privacy") == 1
    assert "DOE" not in capsys.readouterr().out


def test_names_that_are_no_text(several, tmp_path, capsys):
    """Of the data set's folder, of what is written, and of a file that does not belong there."""
    place = tmp_path / os.fsdecode(b"caf\xe9")
    data = small_echo.copy(several, place / "d")
    command = [sys.executable, "-m", "echofm_jax", "inspect", data, "--workers=1"]
    strict = os.environ | {"PYTHONIOENCODING": "utf-8"}
    done = subprocess.run([*command, f"--out={place}"], capture_output=True, cwd=REPO, env=strict)
    assert done.returncode == 0, done.stderr
    assert inspect(data, f"--out={place}", "--gif=train:0") == 0
    assert {path.suffix for path in place.iterdir()} == {"", ".html", ".png", ".gif"}
    (data / os.fsdecode(b"D\xf6E")).write_text("")
    assert inspect(data, "--privacy") == 1
    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith("finding")]
    assert told == ["finding: the folder given: a file that does not belong there"]


def test_clips_stored_twice_in_part_or_for_a_patient_in_two_splits():
    facts = np.zeros(5, inspect_scan.FACTS)
    facts["clip_id"] = [b"a", b"a", b"b", b"c", b"d"]
    facts["patient_id"] = [b"p", b"p", b"q", b"q", b"r"]
    facts["split"] = [b"train", b"train", b"train", b"val", b"val"]
    facts["segments"] = [1, 1, 1, 2, 1]
    found = inspect_statistics.repeated(facts)
    assert found == {
        "duplicates": ["a"],
        "incomplete_clips": ["c"],
        "patients_in_two_splits": ["q"],
    }


def test_the_same_clip_through_another_codec_is_found():
    """Brighter, noisier and reduced it still looks the same; other clips do not."""
    looks = []
    for number in range(30):
        frame = small_echo.speckle(number)[5]
        looks.append(inspect_hash.look_hash(frame, small_echo.FAN))
    rng = np.random.default_rng(0)
    frame = small_echo.speckle(17)[5] * 0.95 + rng.normal(size=small_echo.FAN.shape) * 2
    other = np.clip(frame, 0, 255).astype(np.uint8)
    looks.append(inspect_hash.look_hash(other, small_echo.FAN))
    assert looks[17] != looks[30] and inspect_hash.near_pairs(looks) == [(17, 30)]


def test_pairs_are_those_that_differ_in_seven_bits_or_less_but_in_a_crowd():
    rng = np.random.default_rng(3)
    looks = [rng.bytes(16) for _ in range(200)]
    for index, bits in ((20, 7), (40, 1), (60, 0), (80, 8)):
        changed = np.unpackbits(np.frombuffer(looks[index], np.uint8))
        changed[rng.choice(128, bits, replace=False)] ^= 1
        looks.append(np.packbits(changed).tobytes())
    assert inspect_hash.near_pairs(looks) == [(20, 200), (40, 201), (60, 202)]
    # Two that share one band alone, and between them others that share it, too.
    twin = bytes(byte ^ (place > 1 and place % 2) for place, byte in enumerate(looks[5]))
    crowd = [looks[5][:2] + rng.bytes(14) for _ in range(inspect_hash.CROWD)]
    assert inspect_hash.near_pairs([looks[5], *crowd[1:], twin]) == [(0, inspect_hash.CROWD)]
    assert inspect_hash.near_pairs([looks[5], *crowd, twin]) == []


def frames_of(gif) -> tuple[list[np.ndarray], int]:
    frames, milliseconds = [], 0
    with Image.open(gif) as image:
        for index in range(image.n_frames):
            image.seek(index)
            frames.append(np.asarray(image.convert("L")))
            milliseconds += image.info["duration"]
    return frames, milliseconds


def test_a_clip_as_gif_at_its_pace(data, tmp_path, capsys):
    assert inspect(data, f"--out={tmp_path}", "--gif=train:2") == 0
    (gif,) = tmp_path.glob("*.gif")
    assert gif.name == "clip-000000.gif"
    frames, milliseconds = frames_of(gif)
    assert len(frames) == 10 and milliseconds == 250
    size = small_echo.SIZE
    picture = frames[3][:size].astype(int)
    assert np.abs(picture - small_echo.speckle(2)[3]).mean() < 4
    assert frames[3][size:].max() > 200  # where it says phantom
    # By its id, all parts of a clip are joined.
    assert inspect(data, f"--out={tmp_path}", f"--gif={4:016x}") == 0
    frames, milliseconds = frames_of(gif)
    assert len(frames) == 14 and milliseconds == 350
    assert inspect(data, f"--out={tmp_path}", "--gif=train:6") == 0
    assert "assumed" in capsys.readouterr().out


@pytest.mark.parametrize("which", ["train:7", "elsewhere:0", "000000", "12", "../x"])
def test_a_clip_that_is_not_there_or_not_one(data, tmp_path, which, capsys):
    assert inspect(data, f"--out={tmp_path}", f"--gif={which}") == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"echofm inspect: --gif {which}: ")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("fps", [8, 24, 30, 50, 60, 120])
def test_a_gif_neither_gains_nor_loses_time(fps):
    times = np.arange(3 * fps) / fps
    kept, durations = playable(times)
    assert min(durations) >= 20 and abs(sum(durations) - 3000) <= 10
    began = np.cumsum([0, *durations[:-1]])
    assert np.abs(began - 1000 * times[kept]).max() <= 5 + 1e-6
    assert len(kept) == len(times) if fps <= 50 else len(kept) >= 120


def test_png_is_a_picture_without_words():
    figure = inspect_page._figure(1, 1)
    with Image.open(io.BytesIO(inspect_page.png(figure))) as image:
        assert set(image.info) <= {"dpi"}
