"""Linear heads in closed form: known rules, scikit-learn's own answer, and honest strengths."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression, Ridge

from echofm_jax.pytorch.head_echofm import ClipHead, HeadConfig
from echofm_jax.pytorch.linear_head import STRENGTHS, class_weights, fit_linear, standardise

PLACES, WIDTH = 2, 6
GRADES = ("none", "mild", "moderate", "severe")


def head_for(task: str, names: tuple[str, ...] = GRADES) -> ClipHead:
    outputs = ("%",) if task == "number" else names
    return ClipHead(HeadConfig(task=task, target="x", outputs=outputs), PLACES, WIDTH).eval()


def maps_and_rule(count: int, seed: int = 0) -> tuple[torch.Tensor, np.ndarray]:
    """Maps [R, P, 2D] far from standard, and a number that is linear in them."""
    rng = np.random.default_rng(seed)
    maps = rng.normal(size=(count, PLACES, WIDTH)) * rng.uniform(0.5, 3, WIDTH) + 4
    rule = np.random.default_rng(9).normal(size=(PLACES, WIDTH))
    return torch.from_numpy(maps).float(), ((maps - 4) * rule).sum((1, 2))


def fitted(task: str, maps, targets, patients=None, balanced=False, names=GRADES, by=None):
    """(head, the strength that was chosen); standardised by its maps, or by others."""
    head = head_for(task, names)
    standardise(head, maps if by is None else by)
    patients = patients or [str(i) for i in range(len(maps))]
    return head, fit_linear(head, maps, targets, patients, balanced)


@torch.no_grad()
def test_a_number():
    maps, y = maps_and_rule(120)
    head, _ = fitted("number", maps, (y - y.mean()) / y.std(), by=maps[:4] + 1)
    head.offset.fill_(y.mean())
    head.unit.fill_(y.std())
    fresh, truth = maps_and_rule(40, seed=1)
    np.testing.assert_allclose(head.answers(head(fresh))[:, 0], truth, atol=0.01 * y.std())


@torch.no_grad()
@pytest.mark.parametrize("count", [2, 4])
def test_classes(count):
    maps, y = maps_and_rule(400)
    edges = np.quantile(y, np.arange(1, count) / count)
    order = np.random.default_rng(3).permutation(count)  # names in no order of the rule
    names = tuple("abcd"[:count])
    head, _ = fitted("classes", maps, order[np.digitize(y, edges)], names=names)
    fresh, truth = maps_and_rule(200, seed=1)
    p = head.answers(head(fresh))
    assert p.shape == (200, count)
    told = p.argmax(1).numpy() == order[np.digitize(truth, edges)]
    assert told.mean() > {2: 0.95, 4: 0.7}[count]  # classes between others are no linear rule


@torch.no_grad()
def test_grades():
    maps, y = maps_and_rule(400)
    edges = np.quantile(y, [0.4, 0.7, 0.9])
    head, _ = fitted("grades", maps, np.digitize(y, edges), balanced=True, by=maps[:4] + 1)
    assert (head.thresholds.diff() > 0).all()
    fresh, truth = maps_and_rule(200, seed=1)
    p = head.answers(head(fresh))
    assert (p.argmax(1).numpy() == np.digitize(truth, edges)).mean() > 0.9
    # Where the rule gives an edge, both sides are about as likely: thresholds lie on its scale.
    near = np.abs(truth - edges[1]) < 0.1
    assert near.any() and p[near][:, 2:].sum(1).mean() == pytest.approx(0.5, abs=0.2)


@torch.no_grad()
@pytest.mark.parametrize("task", ["classes", "grades"])
@pytest.mark.parametrize("there", [(0, 2, 3), (1, 2), (2,)])
def test_a_class_that_training_lacks_is_never_the_answer(task, there):
    maps, y = maps_and_rule(90)
    targets = np.array(there)[np.digitize(y, np.quantile(y, np.arange(1, len(there)) / len(there)))]
    head, _ = fitted(task, maps, targets, balanced=True)
    p = head.answers(head(maps))
    assert set(p.argmax(1).tolist()) == set(there)
    if task == "classes":
        absent = [i for i in range(4) if i not in there]
        assert p[:, absent].max() < 1e-6


@torch.no_grad()
@pytest.mark.parametrize("task", ["number", "classes"])
def test_it_is_what_scikit_learn_finds_on_all_that_is_read(task):
    """More values than clips: the components lose nothing."""
    maps, y = maps_and_rule(10)
    targets = y / y.std() if task == "number" else np.digitize(y, np.quantile(y, [0.3, 0.6]))
    head, strength = fitted(task, maps, targets, balanced=True, names=("a", "b", "c"))
    x = ((maps - head.mean) / head.scale).flatten(1).numpy().astype(np.float64)
    unit = np.sqrt(np.square(x - x.mean(0)).sum(1).mean())
    if task == "number":
        plain = Ridge(alpha=strength * len(x) * unit**2).fit(x, targets)
        weight, bias = plain.coef_[None], plain.intercept_[None]
    else:
        plain = LogisticRegression(
            C=1 / (strength * len(x) * unit**2), class_weight="balanced", max_iter=9999, tol=1e-8
        ).fit(x, targets)
        weight, bias = plain.coef_, plain.intercept_
    atol = {"number": 1e-4, "classes": 0.02}[task] * np.abs(weight).max()
    np.testing.assert_allclose(head.out.weight, weight, atol=atol)
    y, expected = head(maps), x @ weight.T + bias
    y, expected = y - y.mean(1, keepdim=True) * (task == "classes"), torch.from_numpy(expected)
    torch.testing.assert_close(y.double(), expected, atol=0.05, rtol=0.02)


def test_the_strength_is_chosen_over_patients():
    """What tells patients apart fits every clip of theirs, and says nothing of another patient."""
    rng = np.random.default_rng(0)
    patients = np.repeat(np.arange(12), 12)
    marks = rng.normal(size=(12, PLACES * WIDTH))[patients]
    maps = torch.from_numpy(marks + 0.05 * rng.normal(size=marks.shape)).float()
    maps = maps.view(-1, PLACES, WIDTH)
    targets = rng.normal(size=12)[patients]
    named = [f"p{i}" for i in patients]
    _, over_patients = fitted("number", maps, targets, named)
    _, over_clips = fitted("number", maps, targets)  # as if each clip were somebody else's
    assert over_patients > 100 * over_clips
    assert over_patients in STRENGTHS


def test_classes_weigh_the_same():
    targets = np.array([0] * 6 + [2] * 2)
    weights = class_weights(targets, 3)
    sums = [weights[targets == i].sum() for i in (0, 2)]
    assert sums == pytest.approx([4, 4])
    maps, y = maps_and_rule(300)
    noisy = (y + 3 * np.random.default_rng(1).normal(size=300) * y.std() > 4 * y.std()).astype(int)
    with torch.no_grad():
        heads = [fitted("classes", maps, noisy, None, b, ("a", "b"))[0] for b in (True, False)]
        rates = [float((h(maps).argmax(1) == 1).float().mean()) for h in heads]
    assert rates[0] > 0.3 and rates[1] < 0.05


@torch.no_grad()
def test_standardised_maps_have_spread_one_but_where_there_is_none():
    maps, _ = maps_and_rule(50)
    maps[:, 0, 0] = 7.0  # never varies
    head = head_for("number")
    standardise(head, maps)
    x = (maps - head.mean) / head.scale
    spread = x.std(0, unbiased=False).flatten()
    assert spread[0] == 0 and head.scale[0, 0] > 0.05
    assert ((spread[1:] > 0.9) & (spread[1:] <= 1)).all() and x.mean(0).abs().max() < 1e-5


@torch.no_grad()
@pytest.mark.parametrize("count", [1, 3])
def test_clips_that_look_the_same_teach_their_mean(count):
    """One clip, as of a small share of the patients, too."""
    maps = torch.full((count, PLACES, WIDTH), 3.0)
    head, _ = fitted("number", maps, np.zeros(count))
    assert head(torch.randn(5, PLACES, WIDTH)).abs().max() == 0
    if count > 1:
        head, _ = fitted("classes", maps, np.array([0, 1, 1]), names=("a", "b"))
        assert head(torch.randn(5, PLACES, WIDTH)).argmax(1).tolist() == [1] * 5
