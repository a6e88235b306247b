"""Windows of a trace. That a real run writes one that can be read: test_train.py."""

import pytest

from echofm_jax.errors import InputError
from echofm_jax.profiling import parse_window, refuse_window


def test_a_window_holds_both_ends():
    assert list(parse_window("5:7")) == [5, 6, 7]
    assert list(parse_window("5:5")) == [5]
    refuse_window(parse_window("5:7"), steps=7)
    refuse_window(range(0), steps=7)


@pytest.mark.parametrize("text", ["5", "7:5", "0:3", ":", "a:b", "-1:5", "1:2:3", "1.5:3", ""])
def test_what_is_no_window_is_refused(text):
    with pytest.raises(InputError, match="give START:STOP"):
        parse_window(text)


def test_a_window_beyond_the_run_is_refused():
    with pytest.raises(InputError, match="--profile=5:8: the run has 7 steps"):
        refuse_window(parse_window("5:8"), steps=7)
