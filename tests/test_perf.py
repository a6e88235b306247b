"""Counted FLOPs against published counts and one made by hand."""

import jax
import pytest

from echofm_jax import perf
from echofm_jax.architecture import Architecture
from echofm_jax.config import MODELS
from echofm_jax.objectives.echofm import EchoFMObjective


@pytest.mark.parametrize(("model", "gflop"), [("vit_l", 374), ("vit_s", 33.5)])
def test_presets(model, gflop):
    """Of clips in three channels, as published; a grey one saves two thirds of the first layer."""
    arch = Architecture(**MODELS[model])
    counted = perf.forward_flops(arch, EchoFMObjective(), channels=3) / 1e9
    assert counted == pytest.approx(gflop, rel=0.01)


def test_a_tiny_model_counted_by_hand():
    """2 steps of 4 positions, half of them visible: 4 tokens, 4 masked."""
    arch = Architecture(
        width=8, depth=2, heads=2, decoder_width=4, decoder_depth=2, decoder_heads=2,
        frames=4, size=8, tubelet=2, patch=4, pred_frames=2,
    )  # fmt: skip
    multiply_adds = {
        "patch_embed": 4 * 32 * 8,  # 32 grey pixels a tubelet
        # 5 queries with CLS: four projections, scores and values, two MLP layers of 4× width.
        "encoder": 2 * (4 * 5 * 8 * 8 + 2 * 5 * 5 * 8 + 2 * 5 * 8 * 32),
        # Keys and values of the 4 tokens; query, output and MLP of one CLS in each of 2 steps.
        "projector": 2 * 4 * 8 * 8 + 2 * (2 * 8 * 8 + 2 * 8 * 32),
        "embed": 4 * 8 * 4,
        "first": 4 * 9 * 4 * 4 + 2 * 9 * 9 * 4 + 2 * 9 * 4 * 16,
        # The last block: queries of the 4 masked tokens alone, keys and values of all 9.
        "last": 2 * 4 * 4 * 4 + 2 * 9 * 4 * 4 + 2 * 4 * 9 * 4 + 2 * 4 * 4 * 16,
        "pred": 4 * 4 * (16 * 3),  # one frame a token, in colour
    }
    found = perf.forward_flops(arch, EchoFMObjective(mask_ratio=0.5))
    assert found == 2 * sum(multiply_adds.values())
    assert perf.step_flops(arch, EchoFMObjective(mask_ratio=0.5)) == 3 * found


def test_random_masking_keeps_a_quarter_of_all_tokens():
    arch = Architecture(**MODELS["vit_s"])
    consistent, random = (
        perf.forward_flops(arch, EchoFMObjective(masking=kind)) for kind in ("consistent", "random")
    )
    assert random == pytest.approx(consistent, rel=0.01)
    assert perf.forward_flops(arch, EchoFMObjective(mask_ratio=0.5)) > 1.3 * consistent


def test_the_peak_is_measured_where_no_data_sheet_knows_the_chip():
    peak, source = perf.peak_flops()
    kind = jax.devices()[0].device_kind
    assert peak > 1e9
    assert ("data sheet" in source) == (kind in perf.PEAK_TFLOPS)
