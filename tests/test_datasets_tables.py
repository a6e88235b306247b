import math

import pytest

from data_pipelines.datasets.tables import join, read_table, split_by_patient
from data_pipelines.labels import Label
from echofm_jax.errors import InputError


def table(tmp_path, data, *columns, **options):
    path = tmp_path / "T.csv"
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return list(read_table(path, *(columns or [("a", "b")]), **options))


def test_what_spreadsheets_do_to_a_table(tmp_path):
    """A byte order mark, carriage returns, quotes, spaces, other orders, blank lines."""
    (one, two) = table(tmp_path, '\ufeffb, a\r\n"1,5",x \r\n\r\n,"ü"\r\n')
    assert (one.text("a"), one.values["b"], one.line) == ("x", "1,5", 2)
    assert two.text("a") == "ü" and math.isnan(two.number("b")) and two.line == 4
    assert table(tmp_path, "a,b\n") == []


def test_alternatives_and_columns_that_are_not_used(tmp_path):
    (row,) = table(tmp_path, ",c,d\n0,1,2\n", ("a", "b"), ("c", "d"), ignored=("", "e"))
    assert (row.whole("c"), row.number("d")) == (1, 2)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("", "T.csv: column a is missing"),
        ("a\n1\n", "T.csv: column b is missing"),
        ("A,b\n1,2\n", "T.csv: column a is missing"),
        ("a,b,x\n", "T.csv: unknown column 'x'; known are a, b"),
        ("a,b,a\n", "T.csv: column a is there twice"),
        ("a,b\n1\n", "T.csv, line 2: 1 values, the header has 2 columns"),
        ("a,b\n1,2\n1,2,3\n", "T.csv, line 3: 3 values, the header has 2 columns"),
        (b"a,b\n\xff\xfe,1\n", r"T.csv: cannot be read \(UnicodeDecodeError\)"),
    ],
)
def test_wrong_tables_in_one_line(tmp_path, data, said):
    with pytest.raises(InputError, match=f"^{said}$"):
        table(tmp_path, data)


def test_a_table_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match=r"^N.csv: cannot be read \(No such file or directory\)$"):
        list(read_table(tmp_path / "N.csv", ("a",)))


@pytest.mark.parametrize(
    ("value", "method", "said"),
    [
        ("JANE", lambda row: row.number("a"), "is no number"),
        ("101", lambda row: row.number("a", 0, 100), "is not between 0 and 100"),
        ("inf", lambda row: row.rate("a"), "is no finite number"),
        ("-inf", lambda row: row.number("a"), "is no finite number"),
        ("nan", lambda row: row.number("a"), "is no finite number"),
        ("1e999", lambda row: row.number("a"), "is no finite number"),
        ("nan", lambda row: row.whole("a"), "is no finite number"),
        ("0.5", lambda row: row.rate("a"), "is not between 1 and 1000"),
        ("-30", lambda row: row.rate("a"), "is not between 1 and 1000"),
        ("1001", lambda row: row.rate("a"), "is not between 1 and 1000"),
        ("1.5", lambda row: row.whole("a"), "is no whole number"),
        ("", lambda row: row.whole("a"), "is no whole number"),
        ("1e99", lambda row: row.whole("a"), "is not between"),
        (" ", lambda row: row.text("a"), "is empty"),
        ("../JANE", lambda row: row.stem("a"), "is no file name"),
        ("JANE", lambda row: row.choice("a", {"x": 1, "y": 2}), "is none of x, y"),
    ],
)
def test_wrong_values_are_placed_and_not_quoted(tmp_path, value, method, said):
    (row,) = table(tmp_path, f"a,b\n{value},1\n")
    with pytest.raises(InputError, match=f"^T.csv, line 2: a {said}") as caught:
        method(row)
    assert "JANE" not in str(caught.value)


def test_rates(tmp_path):
    rows = table(tmp_path, "a,b\n,1\n0,1\n1,1\n1000,1\n")
    assert [row.rate("a") for row in rows] == [0, 0, 1, 1000]


def test_names_with_and_without_suffix(tmp_path):
    rows = table(tmp_path, "a,b\nx.avi,\nx.AVI,\nx,\nx.1,\n")
    assert [row.stem("a") for row in rows] == ["x", "x", "x", "x.1"]


def test_the_strictest_split_takes_the_patient():
    pairs = [("p", "train"), ("p", "test"), ("q", "val"), ("q", "train"), ("r", ""), ("r", "train"),
             ("s", "train"), ("t", "")]  # fmt: skip
    assert split_by_patient(pairs) == {"p": "test", "q": "val", "r": "train", "s": "train", "t": ""}


def test_join_loses_nothing(tmp_path):
    found = [tmp_path / name for name in ("b/ü.avi", "a/ü.avi", "a/new.avi", "a/._ü.avi")]
    known = {"ü": Label(patient="1"), "gone": Label(patient="2")}
    files, labels = join(tmp_path, found, known, "T.csv", lambda stem: tmp_path / f"{stem}.avi")
    assert {file.relative_to(tmp_path).as_posix() for file in files} == set(labels)
    assert {name: label.problem or label.patient for name, label in labels.items()} == {
        "a/new.avi": "no row in T.csv", "a/ü.avi": "1",
        "b/ü.avi": "a second file of this name", "gone.avi": "2",
    }  # fmt: skip
