"""MIMIC-IV-ECHO in miniature: DICOM files by their list; patients, stills, what is missing."""

import gzip
import math

import miniatures as mini
import numpy as np
import pytest
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian
from test_sector import fan_screen

from data_pipelines.datasets import mimic_iv_echo
from echofm_jax.errors import InputError

ULTRASOUND_MULTIFRAME = "1.2.840.10008.5.1.4.1.1.3.1"
STUDIES = [
    "subject_id", "study_id", "study_datetime", "note_id", "note_seq", "note_charttime",
    "measurement_id", "measurement_datetime",
]  # fmt: skip
MEASUREMENTS = [
    "subject_id", "measurement_id", "measurement_datetime", "test_type", "measurement",
    "measurement_description", "result", "unit",
]  # fmt: skip
HEADER = ["subject_id", "study_id", "acquisition_datetime", "dicom_filepath"]


def path(subject, study, number):
    return f"files/p{subject[:2]}/p{subject}/s{study}/{study}_{number:04d}.dcm"


def write_dicom(file, frames, bits="0001"):
    """A multi-frame file whose header has another patient number than the list."""
    file.parent.mkdir(parents=True, exist_ok=True)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = ULTRASOUND_MULTIFRAME, "1.2.3"
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset(str(file), {}, file_meta=meta, preamble=bytes(128))
    data.SOPClassUID, data.SOPInstanceUID = ULTRASOUND_MULTIFRAME, "1.2.3"
    data.PatientID, data.FrameTime = "H7734512", "25"
    data.ImageType = ["DERIVED", "PRIMARY", "", bits]
    data.NumberOfFrames, data.Rows, data.Columns = frames.shape
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 8, 8, 7, 0
    data.PixelData = frames.tobytes()
    data["PixelData"].VR = "OB"
    data.save_as(file, enforce_file_format=True)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mimic")
    root = folder / "physionet.org" / "files" / "mimic-iv-echo" / "1.0"
    clips = [("10002221", "94106955", 1), ("10002221", "95000000", 2), ("11000000", "96000000", 1)]
    for seed, of in enumerate(clips, 1):
        write_dicom(root / path(*of), fan_screen(seed).frames)
    others = [("11000000", "96000000", number) for number in (2, 3, 4)]
    write_dicom(root / path(*others[0]), fan_screen(5).frames[:1])
    write_dicom(root / path(*others[1]), fan_screen(6).frames, bits="0008")
    write_dicom(root / path("12000000", "97000000", 1), fan_screen(7).frames)
    rows = [[of[0], of[1], "2180-07-23 12:00:00", path(*of)] for of in clips + others]
    mini.write_csv(root / "echo-record-list.csv", HEADER, rows)
    data_dir = folder / "data"
    studies = [["10002221", "94106955", "", "", "", "", "m1", ""],
               ["10002221", "95000000", "", "", "", "", "m2", ""],
               ["11000000", "96000000", "", "", "", "", "", ""]]  # fmt: skip
    mini.write_csv(root / "echo-study-list.csv", STUDIES, studies)
    measured = [
        ("m1", "lvef", "42.5"), ("m1", "lvidd", "5"), ("m1", "lvef", "42.5"), ("m2", "lvef", "55"),
        ("m2", "lvef", "60"), ("m3", "lvef", "30"),
    ]  # fmt: skip
    with gzip.open(root / "structured-measurement.csv.gz", "wt") as file:
        print(*MEASUREMENTS, sep=",", file=file)
        for number, name, value in measured:
            print(1, number, "2180", "tte", name, "", value, "%", sep=",", file=file)
    assert mini.ingest("mimic_iv_echo", folder, data_dir) == 0
    return data_dir


def test_clips_of_a_study_have_its_ejection_fraction(made):
    """One that is known, one that is told twice and differently, one without any."""
    values = [
        mini.example(made, path(*of))["ejection_fraction"]
        for of in (("10002221", "94106955", 1), ("10002221", "95000000", 2),
                   ("11000000", "96000000", 1))
    ]  # fmt: skip
    np.testing.assert_array_equal(values, np.float32([42.5, np.nan, np.nan]))


@pytest.mark.parametrize("result", ["", ">55", "normal", "-3", "105", "nan"])
def test_what_is_no_percentage_is_unknown(result):
    assert math.isnan(mimic_iv_echo.percent(result))


def test_another_table_is_named_with_its_column(tmp_path):
    mini.write_csv(tmp_path / "echo-study-list.csv", STUDIES, [])
    mini.write_csv(tmp_path / "structured-measurement.csv", [*MEASUREMENTS, "laterality"], [])
    with pytest.raises(InputError, match=r"structured-measurement.csv: .*laterality"):
        mimic_iv_echo.ejection_fractions(tmp_path)
    (tmp_path / "structured-measurement.csv.gz").write_bytes(gzip.compress(b"subject_id" * 99)[:-9])
    with pytest.raises(InputError, match=r"structured-measurement.csv.gz: cannot be read"):
        mimic_iv_echo.ejection_fractions(tmp_path)


def test_patients_are_those_of_the_list(made):
    records = [mini.example(made, name) for name in (
        path("10002221", "94106955", 1), path("10002221", "95000000", 2),
        path("11000000", "96000000", 1),
    )]  # fmt: skip
    for record, subject in zip(records, ("10002221", "10002221", "11000000"), strict=True):
        assert mini.is_patient(made, record, subject)
        assert record["view"] == b"" and record["fps"] == 40
    assert records[0]["split"] == records[1]["split"]


def test_no_number_of_a_patient_or_study_gets_out(made, capfd):
    said = mini.everything_said(made, capfd)
    for number in (b"H7734512", b"10002221", b"11000000", b"94106955", b"2180"):
        assert number not in said


def test_what_does_not_fit_is_reported_file_by_file(made):
    lines = mini.report(made).items()
    assert {n: (v["reason"], v["detail"]) for n, v in lines if v["status"] == "rejected"} == {
        path("11000000", "96000000", 2): ("single_frame", ""),
        path("11000000", "96000000", 3): ("m_mode_or_spectral", "ImageType 0008"),
        path("11000000", "96000000", 4): ("missing", ""),
        path("12000000", "97000000", 1): ("label_mismatch", "no row in echo-record-list.csv"),
    }


def test_wrong_tables_are_named(tmp_path, capsys):
    root = tmp_path / "set"

    def said(*rows, header=HEADER):
        mini.write_csv(root / "echo-record-list.csv", header, rows)
        return mini.refusal(capsys, "mimic_iv_echo", root)

    good = ["1", "2", "", "files/a.dcm"]
    assert "echo-record-list.csv: column dicom_filepath is missing" in said(
        good[:3], header=HEADER[:3]
    )
    assert "unknown column 'name'" in said([*good, 1], header=[*HEADER, "name"])
    assert "line 2: subject_id is empty" in said(["", *good[1:]])
    assert "line 3: dicom_filepath was there before" in said(good, good)
    for outside in ("/etc/passwd", "files/../../x.dcm"):
        assert "does not lie below the data set" in said([*good[:3], outside])
