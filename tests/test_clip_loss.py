"""Losses of clip heads, by hand."""

import math

import pytest
import torch

from echofm_jax.pytorch.clip_loss import clip_loss
from echofm_jax.pytorch.head_echofm import ClipHead, HeadConfig


def head(task: str, count: int = 3) -> ClipHead:
    return ClipHead(HeadConfig(task=task, target="x", outputs=tuple("abcd"[:count])), 1, 2)


def test_numbers_in_units_of_their_spread():
    number = head("number")
    number.offset.fill_(50.0)
    number.unit.fill_(10.0)
    y = torch.tensor([[0.0], [1.0]])
    targets = torch.tensor([60.0, 70.0], dtype=torch.float64)
    assert clip_loss(number, y, targets, torch.ones(3)).item() == 1.0


def test_classes_by_their_weights():
    y = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    targets, weights = torch.tensor([0, 2]), torch.tensor([1.0, 1.0, 3.0])
    each = [math.log(math.e + 2) - 1, math.log(3)]
    found = clip_loss(head("classes"), y, targets, weights)
    assert found.item() == pytest.approx((each[0] + 3 * each[1]) / 4)
    smooth = clip_loss(head("classes"), y[:1], targets[:1], torch.ones(3), 0.3)
    assert smooth.item() == pytest.approx(math.log(math.e + 2) - (0.7 + 0.1))


def test_grades_by_thresholds_in_order_and_by_their_weights():
    grades = head("grades")
    with torch.no_grad():
        grades.thresholds.copy_(torch.tensor([2.0, -1.0]))
    y, targets = torch.tensor([[0.5], [0.0]]), torch.tensor([1, 0])

    def soft(x: float) -> float:  # -log sigmoid(-x)
        return math.log1p(math.exp(x))

    each = [soft(-1.5) + soft(-1.5), soft(1.0) + soft(-2.0)]
    weights = torch.tensor([3.0, 1.0, 1.0])
    found = clip_loss(grades, y, targets, weights)
    assert found.item() == pytest.approx((each[0] + 3 * each[1]) / 4)


def test_half_precision_is_left_for_the_loss():
    y = torch.zeros(2, 3, dtype=torch.bfloat16, requires_grad=True)
    loss = clip_loss(head("classes"), y, torch.tensor([0, 1]), torch.ones(3))
    assert loss.dtype == torch.float32 and loss.item() == pytest.approx(math.log(3))
