"""What of an encoder learns in each mode, how fast, and LoRA put back into the weights."""

import discs
import pytest
import torch

from echofm_jax.pytorch import EchoFMHead
from echofm_jax.pytorch.head_echofm import HeadConfig
from echofm_jax.pytorch.hypertrophy_head import EchoFMHypertrophy, HypertrophyConfig
from echofm_jax.pytorch.interactive_head import EchoFMInteractive, InteractiveConfig
from echofm_jax.pytorch.parameters import choose, merge
from echofm_jax.pytorch.recipe import Recipe
from echofm_jax.pytorch.segmentation_head import EchoFMSegmenter, SegmentationConfig

UNUSED = ("decoder", "mask_token", "prj_norm")


def made(**changes: int) -> EchoFMHead:
    config = HeadConfig(
        task="classes", target="x", outputs=("a", "b"), kind="mlp", hidden=8, **changes
    )
    model = EchoFMHead(discs.tiny(), config).eval()
    torch.nn.init.normal_(model.head.out.weight)
    return model


def clips(count: int = 2) -> torch.Tensor:
    return torch.rand(count, 3, 4, 32, 32, generator=torch.Generator().manual_seed(3))


def chosen(model: EchoFMHead, recipe: Recipe) -> dict[str, tuple[float, float]]:
    """{name: (rate, decay)} of the parameters that learn."""
    groups = choose(model, recipe)
    names = {id(p): name for name, p in model.named_parameters()}
    found = {
        names[id(p)]: (group["lr"], group["weight_decay"]) for group in groups
        for p in group["params"]
    }  # fmt: skip
    assert set(found) == {name for name, p in model.named_parameters() if p.requires_grad}
    assert sum(len(group["params"]) for group in groups) == len(found)
    return found


def step(model: EchoFMHead, groups: list[dict]) -> set[str]:
    """Names of the parameters that one update of these groups changes."""
    optimizer = torch.optim.AdamW(groups)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    model(clips()).square().sum().backward()
    optimizer.step()
    return {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}


def test_frozen():
    found = chosen(made(), Recipe(mode="frozen", lr=0.1, weight_decay=0.2))
    assert found == {
        "head.hidden.weight": (0.1, 0.2), "head.hidden.bias": (0.1, 0.0),
        "head.out.weight": (0.1, 0.2), "head.out.bias": (0.1, 0.0),
    }  # fmt: skip


def test_full_learns_slower_far_from_the_head():
    recipe = Recipe(mode="full", lr=1.0, layer_decay=0.5, weight_decay=0.2)
    found = chosen(made(), recipe)
    layers = {"encoder.patch_embed.": 1 / 8, "encoder.pos_embed_": 1 / 8, "encoder.cls_": 1 / 8,
              "encoder.blocks.0.": 1 / 4, "encoder.blocks.1.": 1 / 2, "encoder.norm.": 1.0,
              "head.": 1.0}  # fmt: skip
    for name, (rate, decay) in found.items():
        (expected,) = (value for start, value in layers.items() if name.startswith(start))
        assert rate == pytest.approx(expected), name
        decays = name.endswith(".weight") and "norm" not in name
        assert decay == (0.2 if decays else 0.0), name
    assert not any(name.removeprefix("encoder.").startswith(UNUSED) for name in found)
    every = {name for name, _ in made().named_parameters()}
    unused = {n for n in every if n.removeprefix("encoder.").startswith(UNUSED)}
    assert set(found) == every - unused and len(unused) > 30


def test_full_changes_all_that_a_head_sees_and_nothing_else():
    recipe, model = Recipe(mode="full", lr=0.1), made()
    assert step(model, choose(model, recipe)) == set(chosen(made(), recipe))


def test_adapters():
    model = made(adapter=3)
    found = chosen(model, Recipe(mode="adapter", lr=0.1, weight_decay=0.2))
    own = {f"encoder.blocks.{i}.mlp.{part}.{kind}" for i in (0, 1) for part in ("down", "up")
           for kind in ("weight", "bias")}  # fmt: skip
    assert {name for name in found if name.startswith("encoder.")} == own
    assert all(rate == 0.1 for rate, _ in found.values())
    # At first the way up is zero, and the way down has no gradient but decays.
    changed = step(model, choose(model, Recipe(mode="adapter", lr=0.1)))
    assert changed <= set(found)
    assert {f"encoder.blocks.{i}.mlp.up.weight" for i in (0, 1)} <= changed


def test_prompts():
    model = made(prompts=3)
    found = chosen(model, Recipe(mode="prompt", lr=0.1, weight_decay=0.2))
    own = {f"encoder.blocks.{i}.prompts" for i in (0, 1)}
    assert {name for name in found if name.startswith("encoder.")} == own
    assert all(found[name] == (0.1, 0.0) for name in own)
    assert model.get_parameter("encoder.blocks.1.prompts").shape == (1, 3, 16)
    assert step(model, choose(model, Recipe(mode="prompt", lr=0.1))) == set(found)


@pytest.mark.parametrize(
    ("kind", "config"),
    [(EchoFMSegmenter, SegmentationConfig(structures=("none", "LV"), prompts=3)),
     (EchoFMInteractive, InteractiveConfig(structures=("LV",), prompts=3)),
     (EchoFMHypertrophy, HypertrophyConfig(landmarks=("a", "b"), prompts=3))],
)  # fmt: skip
def test_prompts_of_dense_heads(kind, config):
    model = kind(discs.tiny(), config)
    found = chosen(model, Recipe(mode="prompt"))
    own = {name for name in found if name.startswith("encoder.")}
    assert own == {f"encoder.blocks.{i}.prompts" for i in (0, 1)}


@torch.no_grad()
def test_a_block_sees_its_prompts_as_tokens_that_are_not_handed_on():
    plain, model = made(), made(prompts=3)
    block, prompted = plain.encoder.blocks[0], model.encoder.blocks[0]
    prompted.block.load_state_dict(block.state_dict())
    prompted.prompts.normal_()
    x = torch.randn(2, 5, 16)
    whole = torch.cat([x, prompted.prompts.expand(2, -1, -1)], 1)
    torch.testing.assert_close(prompted(x), block(whole)[:, :5])
    assert not torch.allclose(prompted(x), block(x), atol=1e-3)


@torch.no_grad()
def test_lora_begins_as_nothing_and_ends_in_the_weights():
    plain, model = made(), made()
    model.load_state_dict(plain.state_dict())
    recipe = Recipe(mode="lora", rank=2, lr=0.1)
    found = chosen(model, recipe)
    low = {name for name in found if name.startswith("encoder.")}
    assert all(".lora_" in name and "encoder.blocks." in name for name in low)
    assert len(low) == 2 * 2 * 2  # blocks, q and v, two factors
    assert sum(model.get_parameter(name).numel() for name in low) == 4 * 2 * 16 * 2
    assert all(found[name] == (0.1, 0.05) for name in low)
    assert torch.equal(model(clips()), plain(clips()))

    with torch.enable_grad():
        learning = [model.get_parameter(name) for name in found]
        changed = step(model, [{"params": learning, "lr": 0.1}])
    assert any("lora_B" in name for name in changed)
    assert all(".lora_" in name or name.startswith("head.") for name in changed)
    learned = model(clips())
    assert not torch.allclose(learned, plain(clips()))

    merge(model)
    torch.testing.assert_close(model(clips()), learned)
    state, before = model.state_dict(), plain.state_dict()
    assert list(state) == list(before)
    moved = {name for name in state if not torch.equal(state[name], before[name])}
    assert {name for name in moved if name.startswith("encoder.")} == {
        f"encoder.blocks.{i}.attn.{part}.weight" for i in (0, 1) for part in ("q", "v")
    }
