"""The image backbone against transformers' DINOv2, PyTorch's interpolation, and itself."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

from echofm_jax.dinov2_weights import from_state
from echofm_jax.image_architecture import ImageArchitecture
from echofm_jax.image_model import bind, drop_path_keep, init_params, normalised
from echofm_jax.image_positions import OFFSET, resized_positions

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
ARCH = ImageArchitecture(
    width=32, depth=3, heads=4, patch=8, size=40, registers=2, ffn="swiglu", drop_path=0.2
)


@functools.cache
def params(seed: int = 0) -> dict:
    """Random enough that every parameter shows in the output."""
    fresh = init_params(ARCH, jax.random.key(seed))
    leaves, tree = jax.tree.flatten(fresh)
    rng = np.random.default_rng(seed)
    return tree.unflatten([x + rng.normal(0, 0.1, x.shape).astype(np.float32) for x in leaves])


def images(size: int = ARCH.size, n: int = 2) -> np.ndarray:
    return np.random.default_rng(size).normal(size=(n, size, size, 3)).astype(np.float32)


def distance(ours: np.ndarray, reference: np.ndarray) -> float:
    """Relative, of the whole."""
    return float(np.linalg.norm(ours - reference) / np.linalg.norm(reference))


def theirs(patch: int, swiglu: bool, registers: int):
    """A model of transformers with random weights, and its architecture in our words."""
    sizes = {
        "hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 3, "mlp_ratio": 4,
        "image_size": 4 * patch, "patch_size": patch, "use_swiglu_ffn": swiglu,
    }  # fmt: skip
    torch.manual_seed(patch)
    if registers:
        config = transformers.Dinov2WithRegistersConfig(**sizes, num_register_tokens=registers)
        model = transformers.Dinov2WithRegistersModel(config)
    else:
        model = transformers.Dinov2Model(transformers.Dinov2Config(**sizes))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.2)
    arch = ImageArchitecture(
        width=48, depth=2, heads=3, patch=patch, size=4 * patch, registers=registers,
        ffn="swiglu" if swiglu else "mlp",
    )  # fmt: skip
    return model.eval(), arch


def run(model, images: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
    """transformers' final-norm tokens [n, 1 + R + N, D]."""
    mask = None if mask is None else torch.from_numpy(mask)
    pixels = torch.from_numpy(images.transpose(0, 3, 1, 2))
    with torch.no_grad():
        return model(pixel_values=pixels, bool_masked_pos=mask).last_hidden_state.numpy()


@pytest.mark.parametrize("patch, swiglu, registers", [(14, False, 0), (16, True, 0), (7, True, 3)])
def test_the_backbone_is_transformers(patch, swiglu, registers, tmp_path):
    """At the size of the position embeddings, masked and not, and at another size.

    Of other sizes each has a rule of its own: transformers 5 takes exactly the extent (with
    antialiasing in the variant with registers), ours and the official code's DINOv2 the extent plus
    a tenth of a patch. So positions of that size are made by our rule and given to transformers.
    """
    model, arch = theirs(patch, swiglu, registers)
    model.save_pretrained(tmp_path)
    state = load_file(tmp_path / "model.safetensors")  # has other names than `state_dict`
    backbone = bind(arch, from_state(state, arch, "transformers"))
    mask = np.random.default_rng(0).random((2, arch.positions)) < 0.4
    other = 3 * patch
    for size, hidden in ((arch.size, None), (arch.size, mask), (other, None)):
        if size == other:
            table = torch.from_numpy(np.array(backbone.positions(3)))[None]
            learned = model.embeddings.position_embeddings
            learned.data = torch.cat([learned.data[:, :1], table], dim=1)
        pictures = images(size)
        expected = run(model, pictures, hidden)
        cls, patches = jax.jit(backbone)(pictures, hidden)
        for ours, reference in ((cls, expected[:, 0]), (patches, expected[:, 1 + registers :])):
            assert distance(ours, reference) <= 1e-5


@pytest.mark.parametrize("n, m", [(16, 7), (37, 16), (4, 9)])
def test_positions_are_interpolated_as_by_pytorch(n, m):
    grid = torch.randn(1, 3, n, n, generator=torch.Generator().manual_seed(0))
    factor = (m + OFFSET) / n
    expected = torch.nn.functional.interpolate(grid, scale_factor=(factor, factor), mode="bicubic")
    learned = grid[0].flatten(1).T.numpy()  # [n², 3]
    ours = resized_positions(learned, n, m)
    assert distance(ours, expected[0].flatten(1).T.numpy()) <= 1e-5


def test_a_masked_patch_is_not_seen_and_another_is():
    backbone = jax.jit(bind(ARCH, params()))
    pictures = images(n=1)
    changed = pictures.copy()
    changed[:, :8, :8] += 1  # the first patch
    mask = np.zeros((1, ARCH.positions), bool)
    mask[:, 0] = True
    np.testing.assert_array_equal(backbone(pictures, mask)[1], backbone(changed, mask)[1])
    assert np.abs(backbone(pictures, ~mask)[1] - backbone(changed, ~mask)[1]).max() > 1e-3


def test_dropped_branches_leave_an_image_as_it_was_embedded():
    backbone = bind(ARCH, params())
    keep = np.ones((2, ARCH.depth, 2), np.float32)
    plain, _ = backbone(images())
    kept, _ = backbone(images(), keep=keep)
    assert distance(kept, plain) <= 1e-5
    keep[1] = 0
    cls, _ = backbone(images(), keep=keep)
    assert distance(cls[0], plain[0]) <= 1e-5
    embedded = backbone.norm(params()["cls_token"] + params()["pos_cls"])
    assert distance(cls[1], embedded) <= 1e-5


def test_drop_path_is_of_the_samples_own_seed_and_keeps_the_mean():
    seeds = jnp.arange(500, dtype=jnp.uint32)
    keep = np.asarray(drop_path_keep(seeds, 4, 0.2))
    assert keep.shape == (500, 4, 2)
    np.testing.assert_allclose(np.unique(keep), [0, 1.25])
    assert abs(keep.mean() - 1) < 0.05
    assert len(np.unique(keep.reshape(500, -1), axis=0)) > 50
    np.testing.assert_array_equal(drop_path_keep(seeds[7:9], 4, 0.2), keep[7:9])


def test_fresh_parameters_are_those_of_the_official_code():
    fresh = init_params(ARCH, jax.random.key(0))
    assert jax.tree.structure(fresh) == jax.tree.structure(params())
    assert not fresh["mask_token"].any()
    assert 0 < np.abs(fresh["cls_token"]).max() < 1e-5
    assert 0 < np.abs(fresh["registers"]).max() < 1e-5
    kernels = [fresh["patch_embed"]["kernel"], fresh["blocks"]["attn"]["query"]["kernel"],
               fresh["blocks"]["mlp"]["gate"]["kernel"], fresh["pos_spatial"]]  # fmt: skip
    for kernel in kernels:
        assert 0.015 < kernel.std() < 0.021 and np.abs(kernel).max() <= 0.041
    np.testing.assert_array_equal(fresh["blocks"]["scale1"], np.full((3, 32), 1e-5, np.float32))


def test_grey_images_become_imagenets_three_channels():
    grey = np.array([[0, 255], [51, 102]], np.uint8)
    x = normalised(grey[None])
    assert x.shape == (1, 2, 2, 3) and x.dtype == jnp.float32
    np.testing.assert_allclose(x[0, 1, 0], [(0.2 - 0.485) / 0.229, (0.2 - 0.456) / 0.224,
                                            (0.2 - 0.406) / 0.225], rtol=1e-5)  # fmt: skip
    np.testing.assert_array_equal(normalised(np.repeat(grey[..., None], 3, -1)), x[0])
