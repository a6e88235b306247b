"""Tables of labelled clips: what they may say, and what is wrong with them."""

import pytest
from PIL import Image

from data_pipelines.labelled_table import read_table
from echofm_jax.errors import InputError


def read(tmp_path, text, name="labels.csv"):
    path = tmp_path / name
    path.write_text(text)
    return read_table(path, tmp_path)


def test_all_that_can_be_said(tmp_path):
    a, b = read(
        tmp_path,
        "\ufefffile,patient,study,split,fps,view,ef\n"
        "p1/a.avi,p1,s1,Training,50,A4C,55\n\n./b.avi,,,valid,,,\n",
    )
    assert (a.name, a.study, a.folders) == ("p1/a.avi", "s1", ("p1",))
    assert (a.label.patient, a.label.fps, a.label.split) == ("p1", 50, "train")
    assert a.targets == {"view": "A4C", "ef": 55.0} and type(a.targets["ef"]) is float
    assert b.name == "b.avi" and b.targets == {} and b.label.split == "val"
    assert b.label.fps == 0 and b.label.patient == b.study == ""


def test_tabs_and_numbered_rows(tmp_path):
    (row,) = read(tmp_path, "\tfile\tgrade\n0\ta, b.avi\tmild\n", "labels.tsv")
    assert row.name == "a, b.avi" and row.targets == {"grade": "mild"}


def test_rows_of_one_file_are_one_clip(tmp_path):
    (row,) = read(
        tmp_path,
        "file,ef,mask,mask_frame\na.avi,50,m/a0.png,0\na.avi,,m/a7.png,7\na.avi,50,,\n",
    )
    assert row.targets == {"ef": 50.0}
    assert row.label.mask_files == (
        (str(tmp_path / "m/a0.png"), 0), (str(tmp_path / "m/a7.png"), 7),
    )  # fmt: skip
    (row,) = read(tmp_path, "file,mask\na.png,b.png\n")
    assert row.label.mask_files == ((str(tmp_path / "b.png"), 0),)


WRONG = [
    ("", "no column 'file', .* it has nothing"),
    ("name,view\na,A4C\n", "no column 'file', .* it has name, view"),
    ("file,view,view\na,A4C,A4C\n", "column 'view' is there twice"),
    ("file,ef\na,1\nb\n", "line 3: 1 values, the header has 2"),
    ("file,ef\na,1\nb,nan\n", "line 3: ef is no finite number: leave it empty"),
    ("file,ef\na,1\nb,-inf\n", "line 3: ef is no finite number"),
    ("file,ef\na,word\nb,NaN\n", "line 3: ef is no finite number"),
    ("file,ef\na,1\nb,n/a\n", "line 3: ef is no number, as in line 2"),
    ("file,ef\na,1\nb,2\na,2\n", "line 4: ef differs from line 2, of the same file"),
    ("file,view\na,A4C\n./a,A2C\n", "line 3: view differs from line 2"),
    ("file,patient\na,1\na,2\n", "line 3: patient differs from line 2"),
    ("file,split\na,dev\n", "line 2: split is none of train, val, test"),
    ("file,split\na,train\na,test\n", "line 3: split differs"),
    ("file,fps\na,fast\n", "line 2: fps is no number"),
    ("file,fps\na,0.1\n", "line 2: fps is not between 1 and 1000"),
    ("file,view\n,A4C\n", "line 2: file is empty"),
    ("file,view\n/etc/a,A4C\n", "line 2: file does not lie below the source"),
    ("file,view\na/../../b,A4C\n", "line 2: file does not lie below the source"),
    ("file,mask\na,../m.png\n", "line 2: mask does not lie below the source"),
    ("file,mask\na,m.nii\n", "line 2: mask is no PNG"),
    ("file,mask,mask_frame\na,m.png,1.5\n", "line 2: mask_frame is no whole number"),
    ("file,mask,mask_frame\na,m.png,-1\n", "line 2: mask_frame is not between 0"),
    ("file,mask,mask_frame\na,m.png,1\na,n.png,1\n", "line 3: mask_frame 1 .* has a mask already"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "what"), WRONG)
def test_what_is_wrong_is_named(tmp_path, text, what):
    with pytest.raises(InputError, match=what) as caught:
        read(tmp_path, text)
    message = str(caught.value)
    assert message.startswith("labels labels.csv") and "\n" not in message


def test_no_table(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        read_table(tmp_path / "none.csv", tmp_path)
    Image.new("L", (9, 9)).save(tmp_path / "labels.csv", format="png")
    with pytest.raises(InputError, match=r"labels labels\.csv: cannot be read"):
        read_table(tmp_path / "labels.csv", tmp_path)
