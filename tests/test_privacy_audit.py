"""`echofm inspect --privacy`: copies of a clean data set, each spoiled in one way, each found."""

import hashlib
import json
import shutil

import numpy as np
import pytest
import small_echo
import zstandard
from small_echo import FAN, SIZE, edited, rewrite, shard

from data_pipelines import inspect_pieces, privacy_audit, privacy_files, records, shards
from data_pipelines.privacy_known import Search, read_known
from echofm_jax import cli

NOTHING = Search([])


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    """{encoding: data set of three clips in train and two in val}."""
    folder = tmp_path_factory.mktemp("clean")
    splits = {"train": [0, 1, 2], "val": [4, 5]}
    return {kind: small_echo.write(folder / kind, splits, kind) for kind in records.ENCODINGS}


@pytest.fixture
def data(clean, tmp_path):
    """A copy to spoil."""
    return small_echo.copy(clean["zstd"], tmp_path / "data")


def records_found(data, search=NOTHING) -> list[str]:
    """Findings in records, in this process."""
    pieces, damages = inspect_pieces.cut(shards.dataset_folder(data))
    found = [privacy_audit.audit_piece(piece, search) for piece in pieces]
    return [str(d) for d in damages] + [str(d) for audited in found for d in audited.findings]


def files_found(data, search=NOTHING) -> list[str]:
    folder = shards.dataset_folder(data)
    return [
        *privacy_files.check_files(data, folder, inspect_pieces.shard_lengths(folder), search),
        *privacy_files.check_metadata(folder, search),
    ]


def exact(path, search=NOTHING):
    count = sum(1 for _ in shards.read_shard(path))
    return privacy_files.check_shard(inspect_pieces.Piece(path, "train", 0, 0, count), search)


@pytest.mark.parametrize("kind", records.ENCODINGS)
def test_a_clean_data_set_has_no_finding(clean, kind):
    assert not records_found(clean[kind]) and not files_found(clean[kind])
    assert exact(shard(clean[kind])) == ([], True)


def test_a_data_set_from_before_rhythms_is_as_private(clean, tmp_path):
    data = small_echo.older(clean["jpeg"], tmp_path / "data")
    assert not records_found(data) and not files_found(data)


def frames(change):
    """A change of one stored frame's bytes."""

    def edit(feature):
        stored = feature["frames"].bytes_list.value
        stored[3] = change(stored[3])

    return edited(edit)


def painted(value: int, place):
    """A frame with one block of pixels set, encoded as the data set's are."""

    def change(kind):
        image = small_echo.speckle(1)[3]
        image[place] = value
        return lambda _: records.encode_frame(image, kind)

    return change


def segment(marker: int, text: bytes) -> bytes:
    return bytes([0xFF, marker]) + (len(text) + 2).to_bytes(2, "big") + text


CORNER = np.s_[2:4, 2:10]  # far from the sector


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda d: d[:2] + segment(0xFE, b"DOE^JANE") + d[2:], "a comment in its header"),
        (lambda d: d[:2] + segment(0xE1, b"Exif\0\0DOE") + d[2:], "EXIF or XMP in its header"),
        (lambda d: d[:20] + segment(0xED, b"DOE") + d[20:], "Photoshop data in its header"),
        (lambda d: d[:20] + segment(0xEB, b"DOE") + d[20:], "application data in its header"),
        (lambda d: d + b"DOE^JANE", "8 bytes behind the picture"),
        (lambda d: d[:-2] + b"DOE^JANE" + d[-2:], "not decodable as exactly one JPEG"),
        (lambda d: d[:-2] + segment(0xFE, b"DOE") + d[-2:], "do not end as a JPEG's"),
        (lambda d: d.replace(b"\x01\x01\x00", b"\x01\x01\x07", 1), "JFIF data in its header"),
        (lambda d: d[:30] + b"D" + d[31:], "a header that this encoder does not write"),
        (lambda d: d[: len(d) // 2], "not decodable as exactly one JPEG"),
        (lambda _: b"DOE^JANE", "not decodable as exactly one JPEG"),
        (lambda _: records.encode_frame(np.zeros((SIZE, SIZE, 3), np.uint8), "jpeg"),
         "not an image of the data set's size and channels"),
        (lambda _: records.encode_frame(np.zeros((SIZE, SIZE + 8), np.uint8), "jpeg"),
         "not an image of the data set's size and channels"),
        (painted(3, CORNER)("jpeg"), "pixels outside the sector"),
    ],
)  # fmt: skip
def test_whatever_a_jpeg_carries_beside_its_picture(clean, tmp_path, change, told):
    data = small_echo.copy(clean["jpeg"], tmp_path / "data")
    rewrite(data, 1, frames(change))
    found = records_found(data)
    assert found and all(
        line.startswith(f"{shard(data).name}, record 1: frame 3: ") for line in found
    )
    assert any(told in line for line in found)


SKIPPABLE = (0x184D2A50).to_bytes(4, "little") + (8).to_bytes(4, "little") + b"DOE^JANE"
PICTURE = zstandard.ZstdCompressor().compress(bytes(SIZE * SIZE))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda d: d + SKIPPABLE, "16 bytes behind the picture"),
        (lambda d: SKIPPABLE + d, "not an image of the data set's size"),
        (lambda d: d + PICTURE, "bytes behind the picture"),
        (lambda d: d + b"DOE", "3 bytes behind the picture"),
        (lambda d: d[:-9], "cut short"),
        (lambda _: b"DOE^JANE", "not decodable as zstd"),
        (lambda _: zstandard.ZstdCompressor().compress(bytes(1 << 20)), "not an image of the data"),
        (painted(1, np.s_[62, 32])("zstd"), "pixels outside the sector"),
    ],
)
def test_whatever_a_zstd_frame_carries_beside_its_picture(data, change, told):
    rewrite(data, 1, frames(change))
    (line,) = records_found(data)
    assert line.startswith(f"{shard(data).name}, record 1: frame 3: ") and told in line


def put(name: str, value):
    """A change of one feature's values."""

    def edit(feature):
        kind = feature[name].WhichOneof("kind")
        stored = getattr(feature[name], kind).value
        del stored[:]
        stored.extend(value if isinstance(value, list) else [value])

    return edited(edit)


def extra_feature(feature):
    feature["patient_name"].bytes_list.value.append(b"DOE^JANE")


def other_kind(feature):
    feature["fps"].bytes_list.value.append(b"DOE^JANE")


def no_feature(feature):
    del feature["view"]


UNKNOWN_FIELD = b"\x7a\x08DOE^JANE"  # field 15, 8 bytes


def doubled(data: bytes) -> bytes:
    """The record twice: of two entries for one feature a parser keeps the last."""
    return data.replace(b"b_mode", b"DOE_JN") + data


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (edited(extra_feature), "1 feature(s) that no record has"),
        (edited(other_kind), "fps is of another kind"),
        (edited(no_feature), "no feature view"),
        (lambda d: d + UNKNOWN_FIELD, "10 bytes that belong to no feature"),
        (doubled, "bytes that belong to no feature"),
        (lambda _: b"DOE^JANE", "not an example of the format"),
        (put("mode", b"DOE^JANE"), "mode is none of its"),
        (put("view", b"a4c"), "view is none of its"),
        (put("rhythm", b"DOE^JANE"), "rhythm is none of its"),
        (put("fps_source", b"Philips"), "fps_source is none of its"),
        (put("clip_id", b"MRN7734512"), "clip_id is no hash"),
        (put("patient_id", b"0123456789ABCDEF"), "patient_id is no hash"),
        (put("mode", [b"b_mode", b"DOE^JANE"]), "mode has 2 values, not 1"),
        (put("measurements", [19410229.0] * 8), "measurements is outside 0 to 2000"),
        (put("heart_rate", 20230817.0), "heart_rate is outside"),
        (put("fps", float("nan")), "fps is outside"),
        (put("end_systole", [20230817]), "end_systole is outside"),
        (put("end_diastole", [11]), "end_diastole names frames that are not there"),
        (put("phase", [0.5] * 3), "3 phase for 10 frames"),
        (put("times", [0.1 * n for n in range(9, -1, -1)]), "times go back"),
        (put("aortic_stenosis", 7734512), "aortic_stenosis is outside -1 to 2"),
        (put("segment", 1), "segment is not below segments"),
        (put("spacing", [0.3, 7734512.0]), "spacing is outside"),
        (put("mask_frames", []), "masks and mask_frames differ in number"),
        (put("sector", b"DOE^JANE"), "sector has 8 bytes, not 512"),
        (put("masks", records.encode_mask(np.full((SIZE, SIZE), 9, np.uint8))),
         "values that are no structure"),
        (put("masks", records.encode_mask((~FAN).astype(np.uint8))), "labels outside the sector"),
        (put("masks", b"DOE^JANE"), "mask 0: not decodable as zstd"),
    ],
)  # fmt: skip
def test_whatever_a_record_holds_beside_what_it_may(data, change, told):
    rewrite(data, 2, change)
    found = records_found(data)
    assert any(
        line.startswith(f"{shard(data).name}, record 2: ") and told in line for line in found
    )
    assert "DOE" not in "".join(found) and "7734512" not in "".join(found)


def test_files_that_do_not_belong_there(data, tmp_path):
    folder = shards.dataset_folder(data)
    (data / "DOE_JANE.csv").write_text("x")
    (folder / ".salt").write_text("x")
    (folder / "journal").mkdir()
    (folder.parent / "1.0.0-old").symlink_to(tmp_path)
    found = files_found(data)
    assert sorted(found) == [
        "echo_clips/1.0.0: a folder that does not belong there",
        "echo_clips/1.0.0: a hidden file that does not belong there",
        "echo_clips: a link",
        "the folder given: a file that does not belong there",
    ]


@pytest.mark.parametrize(
    ("name", "values", "told"),
    [
        ("dataset_info.json", {"description": "Clips of St Elmo"}, "description is not"),
        ("dataset_info.json", {"citation": "Dr Doe"}, "1 key(s) that are not written"),
        ("echofm.json", {"source": "/home/doe"}, "1 key(s) that are not written"),
        ("echofm.json", {"size": "DOE"}, "size is of another kind"),
        ("echofm.json", {"encoding": "DOE"}, "encoding is no word of ours"),
        ("echofm.json", {"records": {"DOE": 3}}, "a split or a count that is none"),
        ("features.json", {"doe": 1}, "not the features of this version"),
    ],
)
def test_metadata_of_other_words(data, name, values, told):
    small_echo.set_json(shards.dataset_folder(data) / name, **values)
    found = files_found(data)
    assert any(line.startswith(f"{name}: ") and told in line for line in found)
    assert "doe" not in "".join(found).lower()


def test_metadata_that_cannot_be_read_are_findings_too(data, capsys):
    small_echo.set_json(shards.dataset_folder(data) / "echofm.json", source="/home/doe")
    assert cli.main(["inspect", "--privacy", str(data)]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "finding: echofm.json: 1 key(s) that are not written",
        f"finding: {privacy_audit.UNREADABLE}",
        "0 records audited: 2 findings, 0 warnings",
    ]


def test_bytes_between_the_records_of_a_shard(data):
    path = shard(data)
    content = bytearray(path.read_bytes())
    place = content.rfind(bytes(4096))  # padding, which no reader looks at
    content[place : place + 8] = b"DOE^JANE"
    path.write_bytes(content)
    assert len(list(shards.read_shard(path))) == 3 and not records_found(data)
    assert exact(path) == ([], False)
    assert exact(path, Search(["doe^jane"])) == (["a known name (plain)"], False)


NAME, DATE = "Zyxwva-Ümit", "20230817"
HIDDEN = {
    "plain": NAME.upper().encode(), "Latin-1": NAME.encode("latin-1"),
    "UTF-16": NAME.encode("utf-16-le"), "UTF-16, big endian": NAME.encode("utf-16-be"),
    "backwards": NAME[::-1].encode(), "hexadecimal": NAME.encode().hex().encode(),
    "base64": b"eHggWnl4d3ZhLcOcbWl0IHk=",  # in the middle of other text
    "binary": int(DATE).to_bytes(8, "little"),
}  # fmt: skip


@pytest.mark.parametrize("form", HIDDEN)
def test_known_names_are_found_in_every_form(form):
    search = Search([NAME, DATE])
    rng = np.random.default_rng(1)
    noise = rng.integers(0, 256, 100_000, dtype=np.uint8).tobytes()
    assert not search.among_pixels(noise)
    hidden = noise[:777] + HIDDEN[form] + noise[777:]
    assert search.among_pixels(hidden) == {f"a known name ({form})"}


@pytest.mark.parametrize("number", ["416", "7734512", "00000416", "7734512" * 700])
def test_what_a_short_number_is_in_binary_is_not_looked_for(number):
    """For pixels hold it by chance: one dim pixel or three before the black around the sector."""
    search = Search([number])
    pixels = int(number[-7:]).to_bytes(8, "little")
    assert not search.among_pixels(bytes(9) + pixels) and not search.in_text(b"an answer" + pixels)
    assert search.in_text(number.encode()) == {"a known name (plain)"}


def test_a_mark_before_the_first_name_is_no_part_of_it(tmp_path):
    file = tmp_path / "known.txt"
    file.write_text("DOE\nJANE\n", encoding="utf-8-sig")
    assert read_known(file) == ["DOE", "JANE"]


def test_known_names_in_texts_pixels_and_hashes(data, tmp_path):
    file = tmp_path / "known.txt"
    file.write_text("DOE^JANE Q\n2023-08-17\n\nBo\n", encoding="utf-8")
    known = [*read_known(file), "A4C"]  # a name that is a word of ours tells nothing
    assert {"DOE^JANE Q", "DOE", "JANE", "20230817", "17.08.2023", "08/17/2023"} <= set(known)
    assert "Bo" not in known and "Q" not in known  # they stand in everything
    search = Search(known)
    rewrite(data, 0, put("view", b"doe"))
    image = small_echo.speckle(1)[3]
    image[30, 28:38] = np.frombuffer(b"2023-08-17", np.uint8)  # inside the sector
    rewrite(data, 1, frames(lambda _: records.encode_frame(image, "zstd")))
    digest = hashlib.sha256(b"doe").hexdigest()[:16].encode()
    rewrite(data, 2, put("patient_id", digest))
    name = shard(data).name
    assert [line for line in records_found(data, search) if "none of its" not in line] == [
        f"{name}, record 0: a known name (plain) in view",
        f"{name}, record 1: frame 3: a known name (plain) in its pixels",
        f"{name}, record 2: an id that is a known number, or a hash of a known name without the "
        "salt",
    ]
    (shards.dataset_folder(data) / "doe.json").write_text("")
    assert any("a known name as a file's or folder's" in f for f in files_found(data, search))


def test_the_salt_is_looked_for(data):
    salt = b"6b1f" * 16
    rewrite(data, 0, lambda stored: stored + b"\x7a\x40" + salt)
    found = records_found(data, Search([], salt))
    assert any(line.endswith("record 0: the salt (plain) in its bytes") for line in found)


def test_the_command_names_all_of_it_and_exits_with_1(clean, tmp_path, capsys):
    data = small_echo.copy(clean["jpeg"], tmp_path / "data")
    salt = tmp_path / "salt"
    salt.write_text("0123456789abcdef" * 4)
    command = ["inspect", "--privacy", str(data), f"--salt_file={salt}", "--workers=1"]
    assert cli.main([*command, "--json"]) == 0
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert summary == {"records": 5, "findings": [], "warnings": []}

    own = small_echo.example(0)["patient_id"].encode()
    rewrite(data, 0, put("patient_id", own), split="val")  # now in train, too
    small_echo.flip(shard(data), record=1)
    shutil.copy(salt, data / "salt")
    assert cli.main(command) == 1
    told = [line for line in capsys.readouterr().out.splitlines() if ": " in line]
    assert told == [
        "finding: the folder given: a file that does not belong there",
        f"finding: {shard(data).name}, record 1: damaged: cannot be audited",
        f"finding: patient {own.decode()[:6]}...: in train and val",
        f"warning: {shard(data).name}: {privacy_audit.UNEXPLAINED}",
        "5 records audited: 3 findings, 1 warnings",
    ]


def test_a_clip_that_nobody_cut_is_a_warning_and_strict_makes_it_a_finding(tmp_path, capsys):
    whole = records.pack_sector(np.ones((SIZE, SIZE), bool))
    uncut = [small_echo.example(n, sector=whole) for n in range(3)]
    data = small_echo.write(tmp_path / "data", {"train": uncut})
    assert cli.main(["inspect", "--privacy", str(data), "--workers=1", "--strict"]) == 1
    told = capsys.readouterr().out.splitlines()
    assert told[0].startswith("warning: ") and "its sector is 100% of the picture" in told[0]
    assert told[-1] == "3 records audited: 0 findings, 3 warnings"


def test_wrong_options_are_one_line(clean, tmp_path, capsys):
    empty = tmp_path / "empty"
    empty.write_text("a\n")
    for option in (f"--known={tmp_path / 'none'}", f"--known={empty}",
                   f"--salt_file={tmp_path / 'none'}"):  # fmt: skip
        assert cli.main(["inspect", "--privacy", str(clean["jpeg"]), option]) == 2
        assert option.split("=")[0] in capsys.readouterr().err
    for option in (f"--out={tmp_path / 'out'}", "--gif=train:0"):
        assert cli.main(["inspect", "--privacy", str(clean["jpeg"]), option]) == 2
        assert "--privacy writes no files" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
