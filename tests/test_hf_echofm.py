"""transformers' Auto classes on an exported folder, in a process that has none of our packages."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from test_export import make_workdir

from echofm_jax import export
from echofm_jax.torch_checkpoint import read_official
from echofm_jax.torch_weights import to_torch

USE = """
import json, sys, warnings
import numpy as np, torch
warnings.simplefilter("error")
from transformers import AutoConfig, AutoImageProcessor, AutoModel
from transformers.utils import logging
logging.disable_progress_bar()
folder, saved, resized = sys.argv[1:]
trust = {"trust_remote_code": True}
model, loading = AutoModel.from_pretrained(folder, output_loading_info=True, **trust)
processor = AutoImageProcessor.from_pretrained(folder, **trust)
frames = np.random.default_rng(0).integers(0, 256, (50, 40, 60), np.uint8)
inputs = processor(frames, fps=30)
output = model.eval()(**inputs)
sys.path.insert(0, folder)
from modeling_echofm import EchoFM
plain = EchoFM.from_pretrained(folder).eval()
clips = plain.preprocess(frames, fps=30)
features = plain.encode(clips)
half = AutoModel.from_pretrained(folder, dtype=torch.bfloat16, variant="bfloat16", **trust)
model.activation_checkpointing_enable()
model.save_pretrained(saved)
processor.save_pretrained(saved)
longer = model.resize(frames=16, size=48)
longer.save_pretrained(resized)
resized = AutoModel.from_pretrained(resized, **trust).eval()
larger = AutoImageProcessor.from_pretrained(folder, frames=16, size=48, **trust)
wanted = EchoFM.from_pretrained(folder, frames=16, size=48)
large = wanted.preprocess(frames, fps=30)
again = AutoModel.from_pretrained(saved, **trust).eval()
print(json.dumps({
    "loading": [list(value) for value in loading.values()],
    "clips": torch.equal(inputs["pixel_values_videos"], clips),
    "tokens": torch.equal(output.last_hidden_state, features.tokens),
    "frames": torch.equal(output.frame_embeds, features.frames),
    "video": torch.equal(output.pooler_output, features.video),
    "half": str(half(**inputs).last_hidden_state.dtype),
    "checkpointing": model.echofm.gradient_checkpointing,
    "again": torch.equal(again(**inputs).last_hidden_state, features.tokens),
    "plain": torch.equal(EchoFM.from_pretrained(saved).encode(clips).tokens, features.tokens),
    "large": torch.equal(larger(frames, fps=30)["pixel_values_videos"], large),
    "resized": torch.equal(resized(large).frame_embeds, wanted(large).frames),
    "config": AutoConfig.from_pretrained(folder, **trust).architecture["width"],
    "ours": [m for m in sys.modules if m.split(".")[0] in ("jax", "flax", "echofm_jax")],
}))
"""
REFUSE = """
import sys
from transformers import AutoModel
AutoModel.from_pretrained(sys.argv[1], trust_remote_code=True)
"""


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("hf")
    extras = export.Extras(dtypes=("bfloat16",))
    export.export(make_workdir(folder), folder / "exported", extras=extras)
    return folder / "exported"


def run(code: str, folder: Path, *arguments: Path) -> subprocess.CompletedProcess:
    """In a process that reaches no hub and keeps its copies of the code beside the folder."""
    env = os.environ | {"HF_HOME": str(folder.with_name("home")), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-B", "-c", code, str(folder), *map(str, arguments)]
    return subprocess.run(command, env=env, capture_output=True, text=True, cwd=folder)


def test_auto_classes_give_the_same_features_and_save_what_loads_again(exported: Path):
    saved = exported.with_name("saved")
    result = run(USE, exported, saved, exported.with_name("resized"))
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout.splitlines()[-1]) == {
        "loading": [[], [], [], []],
        "clips": True, "tokens": True, "frames": True, "video": True,
        "half": "torch.bfloat16", "checkpointing": True, "again": True, "plain": True,
        "large": True, "resized": True,
        "config": 24, "ours": [],
    }  # fmt: skip
    before, after = (
        to_torch(*read_official(folder / "model.safetensors")[:2]) for folder in (exported, saved)
    )
    assert all((after[key] == value).all() for key, value in before.items())


def test_changed_weights_are_refused(exported: Path):
    file = exported / "model.safetensors"
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    result = run(REFUSE, exported)
    file.write_bytes(content)
    assert result.returncode == 1
    assert "model.safetensors: truncated, damaged or changed since its export" in result.stderr
