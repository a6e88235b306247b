"""`echofm import`: weights in, a workdir out that training resumes from, or nothing."""

import dataclasses
import hashlib
import json
from pathlib import Path

import grain
import jax
import numpy as np
import pytest
import torch

from echofm_jax import cli, config
from echofm_jax.architecture import Architecture
from echofm_jax.checkpoint import Checkpoints, load_params
from echofm_jax.errors import InputError
from echofm_jax.import_weights import import_weights
from echofm_jax.objectives.echofm import EchoFMObjective
from echofm_jax.optimizer import adamw
from echofm_jax.sharding import make_mesh
from echofm_jax.step import abstract_state
from echofm_jax.torch_weights import to_arguments, to_torch, torch_shapes

TINY = Architecture(
    frames=8, size=48, tubelet=4, patch=8, width=24, depth=3, heads=3,
    decoder_width=16, decoder_depth=2, decoder_heads=2, pred_frames=4,
)  # fmt: skip
OBJECTIVE = EchoFMObjective(prior="embedding", cycle_weight=0.0, norm_targets=False)
CONFIG = """
from echofm_jax.config import default_config

def get_config(variant="official"):
    config = default_config("vit_s", variant)
    config.model.update(frames=8, size=48, tubelet=4, patch=8, width=24, depth={depth}, heads=3,
                        decoder_width=16, decoder_depth=2, decoder_heads=2, pred_frames=4)
    config.data.window_seconds = 1.5
    return config
"""


# ml_collections imports config files the way that Python 3.12 removes.
loads_config_file = pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    rng = np.random.default_rng(0)
    return {
        key: torch.from_numpy(rng.standard_normal(shape, np.float32))
        for key, shape in torch_shapes(TINY).items()
    }


@pytest.fixture(scope="module")
def weights(tmp_path_factory, state) -> Path:
    path = tmp_path_factory.mktemp("weights") / "jane_doe.pth"
    arguments = to_arguments(dataclasses.asdict(TINY), dataclasses.asdict(OBJECTIVE))
    torch.save({"model": state, "model_args": arguments}, path)
    return path


@pytest.fixture(scope="module")
def workdir(tmp_path_factory, weights) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "imported"
    import_weights(weights, folder)
    return folder


def test_parameters_arrive_bit_for_bit(workdir: Path, state: dict):
    params, step = load_params(workdir)
    assert step == 0
    for key, value in to_torch(params, TINY).items():
        np.testing.assert_array_equal(value, state[key].numpy(), err_msg=key)


def test_the_config_is_the_files(workdir: Path):
    settings = config.load(workdir)
    config.check(settings)
    assert config.architecture(settings) == TINY
    assert config.objective(settings) == OBJECTIVE


def test_training_resumes_from_it(workdir: Path):
    """As `echofm train` does: the whole state is there, and the data starts at the beginning."""
    optimizer = adamw(lambda step: 1e-3, clip_norm=1.0, weight_decay=0.05)
    abstract = abstract_state(TINY, OBJECTIVE, optimizer, make_mesh(), "dp")
    restored = Checkpoints(workdir, every=1, keep=1).restore(abstract)
    assert restored is not None
    state, position = restored
    assert int(state["step"]) == 0
    assert not any(np.any(x) for x in jax.tree.leaves(state["opt_state"]))
    loader = grain.experimental.ElasticIterator(
        grain.MapDataset.range(8), 4, grain.sharding.ShardOptions(0, 1)
    )
    loader.set_state(position)
    assert next(loader).tolist() == [0, 1, 2, 3]


def test_where_it_came_from_is_kept_without_its_name(workdir: Path, weights: Path):
    origin = json.loads((workdir / "imported.json").read_text())
    expected = hashlib.sha256(weights.read_bytes()).hexdigest()
    assert origin == {"sha256": expected, "missing": []}
    texts = [file.read_bytes() for file in workdir.rglob("*") if file.is_file()]
    assert not any(b"jane_doe" in text for text in texts)


@loads_config_file
def test_a_config_gives_the_recipe(tmp_path: Path, weights: Path):
    (tmp_path / "mine.py").write_text(CONFIG.format(depth=3))
    import_weights(weights, tmp_path / "w", f"{tmp_path / 'mine.py'}:official")
    settings = config.load(tmp_path / "w")
    assert settings.data.window_seconds == 1.5 and settings.objective.prior == "pixel"


@loads_config_file
def test_a_config_of_another_model_is_refused(tmp_path: Path, weights: Path):
    (tmp_path / "mine.py").write_text(CONFIG.format(depth=4))
    with pytest.raises(InputError, match=r"model\.depth is 4 there and 3 in the weights"):
        import_weights(weights, tmp_path / "w", str(tmp_path / "mine.py"))
    assert not (tmp_path / "w").exists()


def test_the_command_says_what_was_missing(tmp_path: Path, weights: Path, capsys):
    saved = torch.load(weights, weights_only=True)
    del saved["model"]["prj_norm.weight"], saved["model"]["prj_norm.bias"]
    torch.save(saved, tmp_path / "older.pth")
    status = cli.main(["import", str(tmp_path / "older.pth"), "--workdir", str(tmp_path / "w")])
    assert status == 0
    assert "missing: prj_norm.weight (that of the encoder taken), " in capsys.readouterr().out
    assert json.loads((tmp_path / "w" / "imported.json").read_text())["missing"]


@pytest.mark.parametrize("content", [b"", b"not a checkpoint\n"])
def test_a_bad_file_is_one_line_and_leaves_nothing(tmp_path: Path, capsys, content: bytes):
    (tmp_path / "x.pth").write_bytes(content)
    status = cli.main(["import", str(tmp_path / "x.pth"), "--workdir", str(tmp_path / "w")])
    error = capsys.readouterr().err
    assert status == 2 and error.count("\n") == 1 and "x.pth: truncated" in error
    assert [path.name for path in tmp_path.iterdir()] == ["x.pth"]


def test_a_workdir_in_use_is_refused(workdir: Path, weights: Path):
    before = (workdir / "config.json").read_bytes()
    with pytest.raises(InputError, match="exists already"):
        import_weights(weights, workdir)
    assert (workdir / "config.json").read_bytes() == before


def test_an_unwritable_workdir_is_named(tmp_path: Path, weights: Path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written"):
        import_weights(weights, tmp_path / "file" / "w")
