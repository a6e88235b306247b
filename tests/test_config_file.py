"""Config files and overrides, read without JAX."""

import subprocess
import sys

import pytest
from ml_collections import ConfigDict

from echofm_jax import config_file
from echofm_jax.errors import InputError

TEXT = """
from ml_collections import ConfigDict

def get_config(variant="plain"):
    return ConfigDict({"name": variant, "model": {"width": 8, "rate": 0.5, "deep": False}})
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "some.py"
    path.write_text(TEXT)
    return path


def test_a_file_and_its_variants(file):
    assert config_file.read(str(file)).name == "plain"
    assert config_file.read(f"{file}:other").name == "other"
    with pytest.raises(InputError, match=r"no config file at .*none\.py: give --config=FILE\.py"):
        config_file.read(str(file.with_name("none.py")))


def test_overrides_keep_the_types(file):
    config = config_file.override(
        config_file.read(str(file)),
        ["--config.model.width=16", "--config.model.rate=1", "--config.model.deep=True"],
    )
    assert config_file.leaves(config) == {
        "name": "plain", "model.width": 16, "model.rate": 1.0, "model.deep": True,
    }  # fmt: skip
    assert type(config.model.rate) is float


@pytest.mark.parametrize(
    ("argument", "told"),
    [("--config.model.widht=3", "unknown config field 'model.widht': did you mean 'model.width'"),
     ("--config.model.width=wide", "bad override"),
     ("--model.width=3", "unknown argument --model.width=3: see --help"),
     ("more", "unknown argument more: see --help")],
)  # fmt: skip
def test_what_is_no_override(file, argument, told):
    with pytest.raises(InputError) as raised:
        config_file.override(config_file.read(str(file)), [argument])
    assert told in str(raised.value)


def test_pick():
    assert config_file.pick({"one": {"a": 1}}, "one") == {"a": 1}
    with pytest.raises(InputError, match="unknown size 'xyz': choose one of one, two"):
        config_file.pick({"one": (), "two": ()}, "xyz", "size")


def test_leaves_of_what_is_nested():
    config = ConfigDict({"a": {"b": {"c": 1}}, "d": 2})
    assert config_file.leaves(config) == {"a.b.c": 1, "d": 2}


def test_no_jax_is_imported():
    code = "import sys, echofm_jax.config_file; print('jax' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "False", result.stderr
