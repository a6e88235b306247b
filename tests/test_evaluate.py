"""`echofm evaluate`: the split it takes, what it writes, and a whole run on a tiny workdir."""

import json
import math

import numpy as np
import pytest

from echofm_jax import evaluate
from echofm_jax.errors import InputError

PER_RECORDING = [n for n in evaluate.SHOWN if n.startswith(("cross", "heart", "end_"))]


def test_the_split_is_val_or_else_test_or_an_error_that_says_how_to_make_one():
    assert evaluate.choose_split({"train": 9, "val": 2, "test": 3}, None, "D") == "val"
    assert evaluate.choose_split({"train": 9, "val": 0, "test": 3}, None, "D") == "test"
    assert evaluate.choose_split({"train": 9}, "train", "D") == "train"
    with pytest.raises(InputError, match=r"val or test of D: it has train.*--split train"):
        evaluate.choose_split({"train": 9, "val": 0}, None, "D")
    with pytest.raises(InputError, match="no clip in split holdout"):
        evaluate.choose_split({"train": 9, "val": 1}, "holdout", "D")


def test_summary_leaves_out_what_is_not_known():
    clips = {"loss": np.array([1.0, 2.0, 6.0]), "effective_rank_model": 4.0}
    clips |= {n: np.zeros(3) for n in evaluate.SHOWN if n not in (*clips, *PER_RECORDING)}
    measured = {name: 1.0 for name in PER_RECORDING}
    nothing = {name: math.nan for name in PER_RECORDING}
    nothing |= {"cross_beat_error_model": 3.0, "same_phase": [2, -1]}
    found = evaluate.summary(clips, [measured, None, nothing], ["a", "b", "a"])
    assert found["loss"] == 3 and found["effective_rank_model"] == 4
    assert found["cross_beat_error_model"] == 2 and found["heart_rate_error_model"] == 1
    assert found["intervals"]["cross_beat_error_model"] == [None, None]  # one patient
    low, high = found["intervals"]["loss"]
    assert low < 3 < high
    assert len(found["recordings"]) == 2
    assert found["recordings"][1]["heart_rate_error_model"] is None
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    none = evaluate.summary(clips, [None] * 3, ["a", "b", "a"])
    assert none["cross_beat_error_model"] is None and none["recordings"] == []
    rows = evaluate.table(none | {"step": 1, "split": "val", "clips": 3, "patients": 2})
    assert "cross-beat phase error                       not known" in rows
