"""Records as bytes."""

import numpy as np
import pytest
from tensorflow_datasets.core import example_serializer

from data_pipelines import records, segments, shard_files
from data_pipelines.labels import Label

TEXTS = {"fps_source": "labels", "mode": "b_mode", "clip_id": "0" * 16, "patient_id": "1" * 16}
FULL = Label(
    view="A4C", rhythm="bigeminy", phase=(0.0, 0.25, 0.5), end_diastole=(0,), end_systole=(1, 2),
    ejection_fraction=55.5, measurements=(("end_diastolic_volume", 120.5),), aortic_stenosis=2,
)  # fmt: skip


@pytest.mark.parametrize("label", [Label(), FULL], ids=["bare", "full"])
@pytest.mark.parametrize("times", [None, np.arange(3) / 30], ids=["no rate", "rate"])
def test_the_bytes_are_those_of_tfds(label, times):
    frames = np.arange(3 * 8 * 8, dtype=np.uint8).reshape(3, 8, 8)
    masks = {1: np.eye(8, dtype=np.uint8)} if label.view else {}
    (made,) = segments.make_records(
        frames, np.ones((8, 8), bool), times, label, encoding="zstd", masks=masks,
        r_waves=(0.01, 0.05) if label.view else (), spacing=np.float32([0.5, 0.25]),
        heart_rate=np.float32(61.5), **TEXTS,
    )  # fmt: skip
    serializer = example_serializer.ExampleSerializer(records.FEATURES.get_serialized_info())
    encoded = records.FEATURES.encode_example(records.UNKNOWN | made)
    expected = serializer.get_tf_example(encoded).SerializeToString(deterministic=True)
    assert shard_files.serialize(made) == expected


def test_only_listed_features_become_bytes():
    with pytest.raises(KeyError, match="patient_name"):
        shard_files.serialize({"patient_name": "somebody"})
