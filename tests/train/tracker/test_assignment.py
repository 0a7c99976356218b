"""Boxes are assigned to objects by overlap; samples are those of their generator."""

import numpy as np
import torch

from volflow.train.tracker.assignment import IGNORED, NEGATIVE, assigned, balanced, sampled

OBJECTS = torch.tensor([[0.0, 0.0, 10.0, 10.0], [20.0, 20.0, 22.0, 40.0]])
BOXES = torch.tensor(
    [
        [0.0, 0.0, 10.0, 10.0],  # object 0
        [0.0, 0.0, 10.0, 6.0],  # 0.6 of it
        [0.0, 0.0, 10.0, 4.0],  # 0.4 of it
        [0.0, 0.0, 10.0, 2.0],  # 0.2 of it
        [20.0, 20.0, 24.0, 38.0],  # 36 / 76 of object 1: its best
        [50.0, 50.0, 60.0, 60.0],
    ]
)


def test_boxes_are_positive_negative_or_between():
    assert assigned(BOXES, OBJECTS, 0.5, 0.3).tolist() == [0, 0, IGNORED, NEGATIVE, IGNORED, -1]
    assert assigned(BOXES, OBJECTS, 0.5, 0.5).tolist() == [0, 0, -1, -1, -1, -1]


def test_the_best_box_of_an_object_is_positive_however_small():
    assert assigned(BOXES, OBJECTS, 0.5, 0.3, at_least=0.3).tolist()[4] == 1
    assert assigned(BOXES, OBJECTS, 0.5, 0.3, at_least=0.5).tolist()[4] == IGNORED
    nothing = assigned(BOXES, OBJECTS[:0], 0.5, 0.3, at_least=0.3)
    assert nothing.tolist() == [NEGATIVE] * 6
    assert len(assigned(BOXES[:0], OBJECTS, 0.5, 0.3, at_least=0.3)) == 0


def test_samples_have_the_numbers_and_the_generator_decides():
    chosen = torch.tensor([0] * 10 + [NEGATIVE] * 30 + [IGNORED] * 5)
    positive, negative = sampled(chosen, 16, 0.25, np.random.default_rng(0))
    assert (len(positive), len(negative)) == (4, 12)
    assert (chosen[positive] == 0).all()
    assert (chosen[negative] == NEGATIVE).all()
    again = sampled(chosen, 16, 0.25, np.random.default_rng(0))
    other = sampled(chosen, 16, 0.25, np.random.default_rng(1))
    assert torch.equal(torch.cat(again), torch.cat([positive, negative]))
    assert not torch.equal(torch.cat(other), torch.cat([positive, negative]))
    # few positive ones: negative ones fill up
    positive, negative = sampled(chosen[8:], 16, 0.25, np.random.default_rng(0))
    assert (len(positive), len(negative)) == (2, 14)


def test_objects_with_many_boxes_do_not_outnumber_others():
    chosen = torch.tensor([0] * 50 + [NEGATIVE] * 9 + [1] * 3 + [2] * 10)
    index = balanced(chosen, 12, np.random.default_rng(0))
    numbers = np.bincount(chosen[index].numpy())
    assert sorted(numbers.tolist()) == [3, 4, 5]
    assert numbers[1] == 3
    assert len(balanced(chosen[50:59], 12, np.random.default_rng(0))) == 0
