import json
import math

import numpy as np
import pytest

from data_pipelines import labels
from echofm_jax.errors import InputError


def read(tmp_path, *lines):
    path = tmp_path / "labels.jsonl"
    path.write_text("\n".join(lines) + "\n")
    return labels.read_labels(path)


def test_all_that_can_be_said(tmp_path):
    full = {
        "file": "p1/a.avi", "patient": "p1", "fps": 50, "view": "A4C", "phase": [0, 0.5, 0.99],
        "end_diastole": [0], "end_systole": [1], "ejection_fraction": 61.5, "simulated": True,
        "aortic_stenosis": "significant", "aortic_regurgitation": "none",
        "rhythm": "bigeminy", "masks": {"1": "../masks/a.png"},
        "points": {"1": {"septum_lv": [3, 4.5], "wall_outer": [3.5, 40]}},
    }  # fmt: skip
    known = read(tmp_path, json.dumps(full), "", '{"file": "b.avi"}', '  {"file": "ü.avi"}')
    assert list(known) == ["p1/a.avi", "b.avi", "ü.avi"]
    assert known["p1/a.avi"] == labels.Label(
        patient="p1", fps=50, view="A4C", phase=(0, 0.5, 0.99), end_diastole=(0,), end_systole=(1,),
        ejection_fraction=61.5, simulated=True, aortic_stenosis=2, aortic_regurgitation=0,
        rhythm="bigeminy", mask_files=((str(tmp_path / "../masks/a.png"), 1),),
        points=known["p1/a.avi"].points,
    )  # fmt: skip
    ((frame, places),) = known["p1/a.avi"].points
    unknown = [math.nan] * 2
    assert frame == 1
    np.testing.assert_array_equal(places, [unknown, [3, 4.5], unknown, [3.5, 40]])
    assert known["b.avi"].phase == () and math.isnan(known["b.avi"].ejection_fraction)


WRONG = [
    ("{", ""),
    ("[]", "object"),
    ("7", "object"),
    ("{}", "file"),
    ('{"file": 7}', "file"),
    ('{"file": ["a"]}', "file"),
    ('{"file": ""}', "file"),
    ('{"file": "first"}', "twice"),
    ('{"file": "a", "name": "Jane"}', "unknown field name"),
    ('{"file": "a", "patient": 12}', "patient"),
    ('{"file": "a", "view": "a4c"}', "view"),
    ('{"file": "a", "view": ["A4C"]}', "view"),
    ('{"file": "a", "rhythm": "af"}', "unknown rhythm; known: sinus, sinus_arrhythmia, atrial_f"),
    ('{"file": "a", "rhythm": ["sinus"]}', "rhythm"),
    ('{"file": "a", "rhythm": null}', "rhythm"),
    ('{"file": "a", "fps": "30"}', "fps"),
    ('{"file": "a", "fps": -1}', "fps"),
    ('{"file": "a", "fps": 1000.5}', "fps"),
    ('{"file": "a", "fps": 0.5}', "fps"),
    ('{"file": "a", "fps": 1e999}', "fps"),
    ('{"file": "a", "fps": NaN}', "fps"),
    ('{"file": "a", "fps": true}', "fps"),
    ('{"file": "a", "masks": ["a.png"]}', "masks"),
    ('{"file": "a", "masks": {"-1": "a.png"}}', "masks"),
    ('{"file": "a", "masks": {"1": "a.npy"}}', "masks"),
    ('{"file": "a", "masks": {"1": 2}}', "masks"),
    ('{"file": "a", "points": [1]}', "points must be"),
    ('{"file": "a", "points": {"-1": {}}}', "points must be"),
    ('{"file": "a", "end_diastole": [1], "points": {"1": {"apex": [1, 2]}}}', "of septum_rv"),
    ('{"file": "a", "end_diastole": [1], "points": {"1": {"wall_lv": [1]}}}', "points must be"),
    ('{"file": "a", "end_diastole": [1], "points": {"1": {"wall_lv": [NaN, 1]}}}', "points must"),
    ('{"file": "a", "end_diastole": [1], "points": {"2": {"wall_lv": [1, 2]}}}', "of frame 2"),
    ('{"file": "a", "spacing": 0.3}', "unknown field spacing"),
    ('{"file": "a", "phase": 0.5}', "phase"),
    ('{"file": "a", "phase": [0, 1]}', "phase"),
    ('{"file": "a", "phase": [NaN]}', "phase"),
    ('{"file": "a", "phase": ["0"]}', "phase"),
    ('{"file": "a", "phase": null}', "phase"),
    ('{"file": "a", "end_diastole": 3}', "end_diastole"),
    ('{"file": "a", "end_diastole": [-1]}', "end_diastole"),
    ('{"file": "a", "end_systole": [1.5]}', "end_systole"),
    ('{"file": "a", "ejection_fraction": 101}', "ejection_fraction"),
    ('{"file": "a", "ejection_fraction": "60"}', "ejection_fraction"),
    ('{"file": "a", "ejection_fraction": NaN}', "ejection_fraction"),
    ('{"file": "a", "simulated": "false"}', "simulated"),
    ('{"file": "a", "aortic_stenosis": "severe"}', "aortic_stenosis must be one of none, early"),
    ('{"file": "a", "aortic_stenosis": 1}', "aortic_stenosis"),
    ('{"file": "a", "aortic_regurgitation": ["none"]}', "aortic_regurgitation"),
    ('{"file": "a", "aortic_regurgitation": null}', "aortic_regurgitation"),
    ('{"file": "a", "patient": "\\ud800"}', "patient"),
    ('{"file": "a", "patient": "\\udce9"}', "patient"),
    ('{"file": "\\ud800"}', "no file can have this name"),
    ('{"file": "a", "phase": ' + "[" * 200_000 + "]" * 200_000 + "}", "nested too deeply"),
]


@pytest.mark.parametrize(("line", "what"), WRONG)
def test_the_wrong_line_is_named(tmp_path, line, what):
    with pytest.raises(InputError, match=r"labels\.jsonl, line 3: ") as caught:
        read(tmp_path, '{"file": "first"}', "", line)
    assert what in str(caught.value) and "Jane" not in str(caught.value)


def test_names_in_any_bytes_and_with_any_separator(tmp_path):
    """As the file system gives them; a line ends where one was begun."""
    name = "latin\udce9 \u2028\x85.npy"
    assert list(read(tmp_path, json.dumps({"file": name}))) == [name]
    assert list(read(tmp_path, '{"file": "a\u2028b\x85"}\r', '{"file": "b"}')) == [
        "a\u2028b\x85", "b",
    ]  # fmt: skip


def test_no_file_or_no_text(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        labels.read_labels(tmp_path / "none.jsonl")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="cannot be read"):
        labels.read_labels(tmp_path / "binary")
