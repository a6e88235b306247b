import json

import pytest
from test_staging import task

from data_pipelines.journal import Entry, open_journal
from data_pipelines.one_file import Outcome
from echofm_jax.errors import InputError

SETTINGS = {"size": 64, "salt": "0a", "source": "0c", "shard_bytes": 5}
KEPT = Entry("a", "key 1", Outcome(clip_id="c", patient_id="p", split="val", sizes=(3, 4)))
FAILED = Entry("b", "key 2", Outcome(reason="failed", detail="its process died"))
MISSING = Entry("d", "key 4", Outcome(reason="missing"))
EMPTY = Entry("c", "key 3", Outcome(reason="empty"))


def opened(folder, *, overwrite: bool = False, **changes):
    return open_journal(folder / "data", SETTINGS | changes, overwrite=overwrite)


def test_what_is_appended_is_read_again_in_order(tmp_path):
    with opened(tmp_path) as log:
        log.append([KEPT, FAILED])
        log.append([EMPTY])
        build = log.settings["build"]
    with opened(tmp_path) as log:
        assert log.lists == [[KEPT, FAILED], [EMPTY]] and log.accepted == [KEPT]
        assert log.settings["build"] == build
        log.append([FAILED, EMPTY])  # nothing new
        assert len(log.lists) == 2
    text = "".join(p.read_text() for p in (tmp_path / "data-ingest").iterdir())
    assert "val" in text and "nothing.npy" not in text


def test_which_files_are_wanted(tmp_path):
    with opened(tmp_path) as log:
        log.append([KEPT, FAILED, EMPTY, MISSING])
        wanted = {
            (name, key): log.wants(task(tmp_path)._replace(name=name, key=key))
            for name in "abcde"
            for key in ("key 1", "key 2", "key 3", "key 4")
        }
        assert [pair for pair, wants in wanted.items() if not wants] == [
            ("a", "key 1"), ("a", "key 2"), ("a", "key 3"), ("a", "key 4"),
            ("c", "key 3"),
        ]  # fmt: skip
        assert log.changed(task(tmp_path)._replace(name="a", key="key 2"))
        assert not log.changed(task(tmp_path)._replace(name="a", key="key 1"))
        assert not log.changed(task(tmp_path)._replace(name="b", key="key 1"))


def test_other_settings_are_named(tmp_path):
    with opened(tmp_path) as log:
        build = log.settings["build"]
        log.append([KEPT])
    with pytest.raises(InputError, match=r"\(size 64, not 32, another source\)"):
        opened(tmp_path, size=32, source="0d").__enter__()
    with pytest.raises(InputError, match=r"\(another salt\)"):
        opened(tmp_path, salt="0b", source="0d").__enter__()
    with opened(tmp_path, shard_bytes=6) as log:  # how large shards are is decided once
        assert log.settings == SETTINGS | {"build": build}


def test_overwriting_forgets_everything(tmp_path):
    with opened(tmp_path) as log:
        log.append([KEPT])
        build = log.settings["build"]
    with opened(tmp_path, overwrite=True, size=32) as log:
        assert log.lists == [] and log.settings["build"] != build


def test_lists_without_settings_are_the_rest_of_a_removed_journal(tmp_path):
    with opened(tmp_path) as log:
        log.append([KEPT])
    (tmp_path / "data-ingest" / "settings.json").unlink()
    with opened(tmp_path) as log:
        assert log.lists == []


LINE = json.dumps({"name": "a", "key": "k"} | KEPT.outcome._asdict())


@pytest.mark.parametrize(("name", "content"), [
    *(("files-00000.jsonl", text) for text in (
        "xx{", LINE + "\n" + LINE[:40], LINE + "\n\n", "[1]", "3", "[" * 100_000, "\udcff", "{}",
        '{"sizes": []}', LINE.replace("[3, 4]", "null"), LINE.replace("val", "vax"),
        LINE.replace('"frames": 0', '"frames": "0"'), LINE.replace('"mode"', '"node"'),
    )),
    ("files-00002.jsonl", LINE),  # and no 00001
    *(("settings.json", text) for text in (
        "", "{", "{}", "[]", "null", '{"build": "0a"}', '{"build": 1, "shard_bytes": 5}', "\udcff",
    )),
])  # fmt: skip
def test_a_damaged_journal_is_named(tmp_path, name, content):
    with opened(tmp_path) as log:
        log.append([KEPT])
    (log.folder / name).write_text(content, errors="surrogateescape")
    before = {path: path.read_bytes() for path in log.folder.iterdir()}
    said = rf"the journal {log.folder} is damaged \({name}\): start afresh with --overwrite"
    with pytest.raises(InputError, match=said):
        opened(tmp_path).__enter__()
    assert before == {path: path.read_bytes() for path in log.folder.iterdir()}
    with opened(tmp_path, overwrite=True) as log:
        assert log.lists == []


def test_where_nothing_was_done_nothing_is_left(tmp_path):
    class Stopped(BaseException):
        pass

    with pytest.raises(Stopped), opened(tmp_path) as log:
        (log.staged / "7f").mkdir(parents=True)
        raise Stopped
    assert not log.folder.exists()
    with opened(tmp_path) as log:
        pass  # as after kill -9
    with pytest.raises(Stopped), opened(tmp_path, size=32) as log:
        (log.staged / "7f").mkdir(parents=True)
        (log.staged / "7f" / "7f3a").touch()
        raise Stopped
    with pytest.raises(InputError, match="size 32, not 64"):  # that work would be lost
        opened(tmp_path).__enter__()
    assert (log.staged / "7f" / "7f3a").exists()


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_of_other_files_is_left_alone(tmp_path, overwrite):
    (tmp_path / "data-ingest" / "a").mkdir(parents=True)
    (tmp_path / "data-ingest" / "settings.json").touch()
    with pytest.raises(InputError, match="data-ingest is where the journal goes, and holds other"):
        opened(tmp_path, overwrite=overwrite).__enter__()
    assert {p.name for p in (tmp_path / "data-ingest").iterdir()} == {"a", "settings.json"}


def test_it_is_its_owners_alone(tmp_path):
    with opened(tmp_path) as log:
        assert log.folder.stat().st_mode & 0o077 == 0
