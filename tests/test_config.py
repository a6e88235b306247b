"""Configs: the presets' numbers, overrides, refusals and what follows from the data's size."""

import json

import pytest
from conftest import REPO

from echofm_jax import config as configs
from echofm_jax.errors import InputError
from echofm_jax.objectives.echofm import EchoFMObjective

FILES = sorted((REPO / "configs").glob("*.py"))
IMAGES = [path for path in FILES if path.stem.startswith("echoapex")]
FILES = [path for path in FILES if path not in IMAGES]
# width, depth, heads, decoder width, depth, heads, patch
SIZES = {
    "vit_s": (384, 12, 6, 192, 4, 6, 16),
    "vit_b": (768, 12, 12, 512, 8, 16, 16),
    "vit_l": (1024, 24, 16, 512, 8, 16, 16),
    "vit_h": (1280, 32, 16, 512, 8, 16, 14),
    "vit_g": (1408, 40, 16, 512, 8, 16, 14),
    "vit_e": (1792, 56, 16, 512, 8, 16, 14),
}
OTHERS = {"echofm_plus": "vit_l"}  # file: its model
HIDDEN = {"vit_g": 6144, "vit_e": 15360}  # others: 4 × width


@pytest.mark.parametrize("model", SIZES)
def test_presets_have_the_published_sizes(model):
    arch = configs.architecture(configs.default_config(model, "official"))
    found = (arch.width, arch.depth, arch.heads, arch.decoder_width, arch.decoder_depth,
             arch.decoder_heads, arch.patch)  # fmt: skip
    assert found == SIZES[model]
    assert (arch.frames, arch.size, arch.tubelet, arch.pred_frames) == (32, 224, 4, 8)
    assert arch.problems() == []
    assert (arch.hidden, arch.decoder_hidden) == (
        HIDDEN.get(model, 4 * arch.width), 4 * arch.decoder_width,
    )  # fmt: skip


def test_objectives():
    official, paper = (
        configs.objective(configs.default_config("vit_s", variant))
        for variant in ("official", "paper")
    )
    assert (official.prior, official.cycle_weight) == ("pixel", 1.0)
    assert (paper.prior, paper.cycle_weight) == ("embedding", 0.0)
    for one in (official, paper):
        assert (one.masking, one.mask_ratio, one.norm_targets) == ("consistent", 0.75, True)
        assert (one.triplet_weight, one.triplet_margin) == (1.0, 0.2)
        assert (one.min_positive_lag, one.cycle_gate) == (1, 0.0)


@pytest.mark.parametrize("variant", ["", ":paper", ":official", ":plus"])
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_config_file_loads(path, variant):
    config = configs.parse([], f"{path}{variant}")
    assert config.objective.prior == {":paper": "embedding"}.get(variant, "pixel")
    if path.stem != "smoke":
        assert config.model.width == SIZES[OTHERS.get(path.stem, path.stem)][0]
        assert (config.optim.epochs, config.optim.warmup_epochs) == (200, 10)
        assert (config.optim.blr, config.optim.clip_norm) == (1e-3, 0.02)
        assert config.optim.weight_decay == 0.05


@pytest.mark.parametrize("path", IMAGES, ids=lambda path: path.stem)
def test_every_config_file_of_echoapex_loads(path):
    config = configs.parse([], str(path))
    arch, objective = configs.architecture(config), configs.objective(config)
    assert config.method == "dinov2" and not objective.other_frame
    assert config.optim.b2 == 0.999
    width = {"echoapex_vitb": 768, "echoapex_vitl": 1024, "echoapex_smoke": 192}[path.stem]
    assert arch.width == width
    assert configs.parse([], f"{path}:other_frame").objective.other_frame
    with pytest.raises(InputError, match="unknown variant 'other': did you mean 'other_frame'"):
        configs.parse([], f"{path}:other")
    if path.stem != "echoapex_smoke":
        assert (arch.patch, arch.size, arch.drop_path, objective.prototypes) == (
            14,
            224,
            0.3,
            65536,
        )
        assert configs.recipe(config, 10**6).peak_lr == pytest.approx(0.004)


def test_an_image_config_survives_its_file(tmp_path):
    overrides = ["--config.objective.mask_ratio=(0.2,0.4)", "--config.data.batch_size=256"]
    config = configs.parse(overrides, str(IMAGES[0]))
    assert configs.recipe(config, 100).steps == config.optim.steps
    configs.save(config, tmp_path)
    loaded = configs.load(tmp_path)
    assert configs.objective(loaded) == configs.objective(config)
    assert configs.objective(loaded).mask_ratio == (0.2, 0.4)
    assert hash(configs.objective(loaded))  # it is an argument of what is compiled
    configs.refuse_other_model(config, loaded, tmp_path)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        (
            "objective.local_size",
            50,
            r"=50 is not divisible by model\.patch=16: choose 48",
        ),
        ("objective.mask_ratio", 0.3, r"objective\.mask_ratio=\(0\.3,\): give two numbers"),
        ("objective.global_scale", "(0.3,)", r"objective\.global_scale=.*: give two numbers"),
        ("optim.steps", -1, r"optim\.steps=-1 is negative"),
        ("objective.prototypes", 0, r"objective\.prototypes=0 must be at least 1"),
        ("objective.momentum", 1.5, r"objective\.momentum=1\.5 is not in \[0, 1\]"),
        ("objective.centering", "mean", "objective.centering='mean' is none of sinkhorn_knopp"),
        ("model.size", 100, r"model\.size=100 is not divisible by model\.patch=16"),
        ("data.batch_size", 1, r"data\.batch_size=1: KoLeo and Sinkhorn-Knopp compare images"),
        ("optim.accumulate", 2, r"optim\.accumulate=2: the prototypes are shared out"),
        ("optim.ema", 0.9, r"optim\.ema=0\.9: the teacher is the average"),
    ],
)
def test_what_cannot_be_of_an_image_config_is_named(field, value, said):
    with pytest.raises(InputError, match=said):
        configs.parse([f"--config.{field}={value}"], str(REPO / "configs" / "echoapex_smoke.py"))


@pytest.mark.parametrize(
    ("field", "value"), [("objective.prototypes", 100), ("objective.separate_head", True)]
)
def test_a_workdir_of_other_heads_is_refused(field, value, tmp_path):
    known = configs.parse([], str(IMAGES[0]))
    other = configs.parse([f"--config.{field}={value}"], str(IMAGES[0]))
    with pytest.raises(InputError, match=rf"{field} is {value} \(the workdir has"):
        configs.refuse_other_model(other, known, tmp_path)
    still = configs.parse(["--config.optim.weight_decay_growth=2"], str(IMAGES[0]))
    with pytest.raises(InputError, match=r"weight_decay_growth != 1 is True \(the workdir has F"):
        configs.refuse_other_model(still, known, tmp_path)
    with pytest.raises(InputError, match=r"method is dinov2 \(the workdir has echofm\)"):
        configs.refuse_other_model(known, configs.parse([], str(FILES[0])), tmp_path)


def test_there_is_a_config_file_for_each_model():
    assert [path.stem for path in FILES] == sorted(["smoke", *OTHERS, *SIZES])


def test_echofm_plus_is_plus_unless_told_otherwise():
    path = REPO / "configs" / "echofm_plus.py"
    plus, same, official = (configs.parse([], f"{path}{v}") for v in ("", ":plus", ":official"))
    assert plus == same and plus.data.window_seconds == official.data.window_seconds == 1
    own = configs.OBJECTIVES["plus"] | {"masking": "sector"}
    assert configs.objective(plus) == EchoFMObjective(**own)
    assert configs.objective(official) == EchoFMObjective()


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("nowhere.py", "no config file at nowhere.py"),
        (f"{FILES[0]}:papr", "unknown variant 'papr': did you mean 'paper'?"),
        (f"{FILES[0]}:zzz", "unknown variant 'zzz': choose one of official, paper, plus"),
    ],
)
def test_wrong_specs_are_one_line(spec, said):
    with pytest.raises(InputError) as error:
        configs.parse([], spec)
    assert said in str(error.value) and "\n" not in str(error.value)


def test_an_unknown_model_names_the_nearest():
    with pytest.raises(InputError, match="unknown model 'vit_x': did you mean 'vit_"):
        configs.default_config("vit_x", "official")


def test_overrides_keep_their_fields_types():
    config = configs.default_config("vit_s", "official")
    changed = configs.override(
        config,
        ["--config.optim.blr=2", "--config.data.batch_size=8", "--config.data.dir=7",
         "--config.objective.norm_targets=false", "--config.mesh.preset=fsdp"],
    )  # fmt: skip
    assert changed.optim.blr == 2.0 and isinstance(changed.optim.blr, float)
    assert changed.data.batch_size == 8 and changed.data.dir == "7"
    assert changed.objective.norm_targets is False and changed.mesh.preset == "fsdp"


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("--config.optim.blrr=1", "unknown config field 'optim.blrr': did you mean 'optim.blr'?"),
        ("--config.data.batch_sise=1", "did you mean 'data.batch_size'?"),
        ("--config.data.batch_size=many", "bad override"),
        ("--config.data.batch_size=0", "data.batch_size=0 must be at least 1"),
        ("--config.data.windows_per_record=0", "data.windows_per_record=0 must be at least 1"),
        ("--config.data.max_bad_records=1", "data.max_bad_records=1.0 is not in [0, 1)"),
        ("--config.data.augment.rotate=90", "data.augment.rotate=90.0 is not in [0, 90)"),
        ("--config.data.augment.zoom=1", "unknown config field 'data.augment.zoom'"),
        ("--config.optim.accumulate=3", "data.batch_size=256 is not divisible by"),
        ("--config.model.frames=30", "model.frames=30 is not divisible by model.tubelet=4"),
        ("--config.model.size=225", "model.size=225 is not divisible by model.patch=16"),
        ("--config.model.heads=5", "model.width=384 is not divisible by model.heads=5"),
        ("--config.model.decoder_heads=5", "model.decoder_width=192 is not divisible"),
        ("--config.model.pred_frames=12", "model.pred_frames=12 is not a multiple of the 8 time"),
        ("--config.model.dtype=float16", "model.dtype='float16' is none of float32, bfloat16"),
        ("--config.mesh.preset=tp", "mesh.preset='tp' is none of dp, fsdp, fsdp_tp"),
        ("--config.mesh.tensor=0", "mesh.tensor=0 must be at least 1"),
        ("--config.mesh.fsdp=2", "mesh.fsdp=2 splits nothing with mesh.preset=dp: choose fsdp or"),
        ("--config.mesh.tensor=2", "mesh.preset=dp: choose fsdp_tp"),
        ("--config.optim.ema=1", "optim.ema=1.0 is not in [0, 1)"),
        ("--config.optim.reduce_dtype=half", "optim.reduce_dtype='half' is none of float32, bfl"),
        ("--config.optim.moments_dtype=", "optim.moments_dtype='' is none of float32, bfloat16"),
        ("--config.objective.prior=none", "objective.prior='none' is none of pixel, embedding"),
        (
            "--config.objective.min_positive_lag=0",
            "objective.min_positive_lag=0 is not from 1 to 7",
        ),
        (
            "--config.objective.min_positive_lag=8",
            "7: model.frames / model.tubelet is 8 time steps",
        ),
        (
            "--config.objective.embedding_alpha=9.0",
            "objective.embedding_alpha=9.0 is not in [0, 1]",
        ),
        ("--config.objective.cycle_gate=-0.1", "objective.cycle_gate=-0.1 is not in [0, 2]"),
        ("--config.objective.cycle_gate=nan", "objective.cycle_gate=nan is not in [0, 2]"),
        ("--config.objective.mask_ratio=1", "objective.mask_ratio=1.0 is not in [0, 1)"),
    ],
)
def test_what_cannot_work_is_refused_in_one_line(override, said):
    with pytest.raises(InputError) as error:
        configs.override(configs.default_config("vit_s", "official"), [override])
    assert said in str(error.value)


def test_heads_that_cannot_be_split_are_named():
    config = configs.default_config("vit_s", "official")
    with pytest.raises(
        InputError, match=r"mesh\.tensor=4 does not divide model\.heads=6; mesh\.te"
    ):
        configs.override(config, ["--config.mesh.preset=fsdp_tp", "--config.mesh.tensor=4"])


def test_all_problems_are_named_at_once():
    config = configs.default_config("vit_s", "official")
    with pytest.raises(InputError, match=r"model\.frames=30.*model\.size=225"):
        configs.override(config, ["--config.model.frames=30", "--config.model.size=225"])


def test_a_recipe_follows_the_data_and_the_batch():
    config = configs.default_config("vit_l", "official")
    recipe = configs.recipe(config, 290_000)
    assert recipe.steps_per_epoch == pytest.approx(1132.8, abs=0.05)
    assert recipe.steps == 226_562  # 200 epochs of 290,000 clips in batches of 256
    assert recipe.warmup_steps == pytest.approx(11_328, abs=1)
    assert recipe.peak_lr == 1e-3
    config.data.batch_size = 1024
    larger = configs.recipe(config, 290_000)
    assert larger.peak_lr == 4e-3 and larger.steps == 56_641
    assert larger.warmup_steps / larger.steps == pytest.approx(10 / 200)
    config.data.windows_per_record = 4  # clips of a record, each of which counts
    assert configs.recipe(config, 290_000).steps == 226_562
    shown = str(larger)
    for part in ("56641 steps = 200 epochs of 283.2 steps", "warm-up 2832 steps", "rate 0.004"):
        assert part in shown


def test_steps_replace_epochs_and_keep_the_warm_ups_share():
    config = configs.default_config("vit_s", "official")
    config.optim.steps = 300
    recipe = configs.recipe(config, 80)
    assert (recipe.steps, recipe.warmup_steps) == (300, 15)


def test_a_tiny_data_set_still_takes_a_step():
    config = configs.default_config("vit_s", "official")
    config.optim.epochs = 0.01
    assert configs.recipe(config, 3).steps == 1


def test_saved_and_loaded_it_is_the_same(tmp_path):
    config = configs.parse([], f"{FILES[0]}:paper")
    configs.save(config, tmp_path)
    loaded = configs.load(tmp_path)
    assert loaded.to_dict() == config.to_dict()
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]
    assert configs.architecture(loaded) == configs.architecture(config)
    assert configs.objective(loaded) == configs.objective(config)


def test_a_damaged_or_missing_config_is_one_line(tmp_path):
    with pytest.raises(InputError, match=r"is not a workdir: it has no readable config\.json"):
        configs.load(tmp_path)
    configs.save(configs.default_config("vit_s", "official"), tmp_path)
    path = tmp_path / "config.json"
    path.write_text(path.read_text()[:200])
    with pytest.raises(InputError, match=r"config\.json is damaged") as error:
        configs.load(tmp_path)
    assert "\n" not in str(error.value)


def test_fields_that_an_older_config_lacks_have_their_defaults(tmp_path):
    config = configs.default_config("vit_s", "official")
    older = config.to_dict()
    del older["optim"]["ema"], older["mesh"]["tensor"], older["model"]["decoder_mlp_ratio"]
    (tmp_path / "config.json").write_text(json.dumps(older))
    assert configs.load(tmp_path).to_dict() == config.to_dict()
    (tmp_path / "config.json").write_text(json.dumps(older | {"newer": 1}))
    with pytest.raises(InputError, match=r"damaged: .*newer"):
        configs.load(tmp_path)


def test_another_kind_of_state_is_refused(tmp_path):
    known = configs.default_config("vit_s", "official")
    other = configs.default_config("vit_s", "official")
    other.optim.update(ema=0.99, moments_dtype="bfloat16", reduce_dtype="bfloat16")
    with pytest.raises(InputError, match=r"optim\.moments_dtype is bfloat16 .*ema > 0 is True"):
        configs.refuse_other_model(other, known, tmp_path)


def test_another_model_is_refused_but_not_another_way_to_compute_it(tmp_path):
    known = configs.default_config("vit_s", "official")
    other = configs.default_config("vit_s", "paper")
    other.model.update(dtype="bfloat16", remat="none")
    other.data.batch_size = 3
    configs.refuse_other_model(other, known, tmp_path)
    images = configs.parse([], str(IMAGES[0]))
    changed = ["--config.model.drop_path=0.5", "--config.model.layer_scale=0.01"]
    configs.refuse_other_model(configs.parse(changed, str(IMAGES[0])), images, tmp_path)
    without = configs.parse(["--config.model.layer_scale=0"], str(IMAGES[0]))
    with pytest.raises(InputError, match=r"layer_scale=False \(the workdir has True\)"):
        configs.refuse_other_model(without, images, tmp_path)
    other.model.update(depth=3, patch=14)
    with pytest.raises(InputError) as error:
        configs.refuse_other_model(other, known, tmp_path)
    assert "model.depth=3 (the workdir has 12), model.patch=14 (the workdir has 16)" in str(
        error.value
    )
