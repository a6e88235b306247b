"""Prompts as tokens and maps: where they are, that those that are not there say nothing."""

import pytest
import torch

from echofm_jax.pytorch.prompt_encoder import (
    NEGATIVE,
    NONE,
    POSITIVE,
    PromptEncoder,
    Prompts,
    as_mask,
    check_place,
    draw_maps,
    grid_places,
    waves,
)

SIZE = 32


def prompts(*clicks: tuple[float, float, int], box: tuple[float, ...] | None = None) -> Prompts:
    """Of one structure."""
    found = Prompts.none(1, SIZE)
    for x, y, kind in clicks:
        found = found.clicked(torch.tensor([[x, y]]).float(), torch.tensor([kind]))
    return found if box is None else found._replace(boxes=torch.tensor([box]))


def test_maps_show_each_prompt_where_it_is():
    shown = prompts((20, 5, POSITIVE), (3, 30, NEGATIVE), (9, 9, NONE), box=(4.0, 6.0, 10.0, 7.5))
    maps = draw_maps(shown._replace(masks=torch.full((1, SIZE, SIZE), 0.3)))[0]
    assert maps.shape == (4, SIZE, SIZE)
    assert maps[0].argmax() == 5 * SIZE + 20 and maps[0].max() == 1
    assert maps[1].argmax() == 30 * SIZE + 3 and maps[1].max() == 1
    assert maps[0, 9, 9] + maps[1, 9, 9] < 1e-6  # there is no such click
    assert maps[2].nonzero().tolist() == [[y, x] for y in (6, 7) for x in range(4, 11)]
    assert (maps[3] == 0.3).all()
    assert not draw_maps(prompts()).any()


def test_tokens_tell_kind_and_place_and_which_are_there():
    torch.manual_seed(0)
    encoder = PromptEncoder(16)
    tokens, absent = encoder(prompts((20, 5, POSITIVE), (20, 5, NEGATIVE), (1, 1, NONE)))
    assert absent.tolist() == [[False, False, True, True, True]]  # the last two are corners
    difference = encoder.kinds.weight[POSITIVE] - encoder.kinds.weight[NEGATIVE]
    torch.testing.assert_close(tokens[0, 0] - tokens[0, 1], difference)
    _, absent = encoder(prompts(box=(1.0, 2.0, 3.0, 4.0)))
    assert absent.tolist() == [[False, False]]


def test_waves_tell_every_pixel_from_its_neighbour():
    places = grid_places(SIZE, 1, torch.device("cpu"))
    assert places[:2].tolist() == [[0, 0], [1, 0]]  # x first, row by row
    assert grid_places(2, 16, torch.device("cpu")).tolist()[1] == [23.5, 7.5]
    apart = torch.cdist(waves(places, SIZE, 64), waves(places, SIZE, 64))
    assert apart.fill_diagonal_(9).min() > 0.5


def test_logits_as_a_mask():
    expected = 2 * torch.tensor([0.0, 2.0, -40.0]).sigmoid() - 1
    torch.testing.assert_close(as_mask(torch.tensor([0.0, 2.0, -40.0])), expected)


@pytest.mark.parametrize("place", [(-1, 3), (3, 32), (float("nan"), 3), (31.2, 0)])
def test_a_place_outside_the_image(place):
    with pytest.raises(ValueError, match=r"outside the image of 32 x 32 pixels; both go from 0"):
        check_place(*place, SIZE)
    check_place(0, 31, SIZE)
