"""The training loop, with a task of three numbers."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

import pytest
import torch
from torch import nn

from volflow.train.loop import Schedule, run_training
from volflow.train.state import State


@dataclass
class Line:
    """Fit `y = a x` with one weight."""

    schedule: Schedule
    drawn: list[int] = field(default_factory=list)
    validated: list[int] = field(default_factory=list)

    def learning_rate(self, step):
        return 0.1 / (step + 1)

    def draw(self, step):
        self.drawn.append(step)
        return torch.tensor([[float(step % 3 + 1)]])

    def loss(self, network, crops, step):
        return ((network(crops) - 2 * crops) ** 2).mean()

    def validate(self, state):
        self.validated.append(state.step)
        state.best = min(state.best, state.loss)
        return {"step": state.step, "loss": state.loss, "score": state.loss}


def fresh():
    torch.manual_seed(0)
    network = nn.Linear(1, 1, bias=False)
    return State(network, torch.optim.SGD(network.parameters(), 1.0))


def test_the_loop_validates_saves_and_reports_as_scheduled(tmp_path):
    task, state, rows = Line(Schedule(60, 20, 25)), fresh(), []
    run_training(task, state, tmp_path, "cpu", rows.append)
    assert state.step == 60
    assert task.validated == [20, 40, 60]
    assert task.drawn == list(range(61))  # one ahead
    assert [row["step"] for row in rows if "seconds" in row] == [25, 50]
    assert [row["best"] for row in rows if "score" in row][-1] == state.best
    lines = (tmp_path / "validation.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [20, 40, 60]
    assert state.optimizer.param_groups[0]["lr"] == pytest.approx(0.1 / 60)


def test_a_resumed_loop_ends_in_the_same_weights(tmp_path):
    def stop(row):
        if row.get("step") == 40:
            raise KeyboardInterrupt

    schedule = Schedule(60, 20, 15, average_decay=0.9, max_gradient_norm=0.5)
    for folder in ("whole", "parts"):
        (tmp_path / folder).mkdir()
    whole, resumed = fresh(), fresh()
    run_training(Line(schedule), whole, tmp_path / "whole", "cpu", lambda row: None)
    with pytest.raises(KeyboardInterrupt):
        run_training(Line(schedule), fresh(), tmp_path / "parts", "cpu", stop)
    task = Line(schedule)
    run_training(task, resumed, tmp_path / "parts", "cpu", lambda row: None)
    assert task.drawn[0] == 30  # the last state that was saved
    for name in ("network", "average"):
        one, other = (
            state.average if name == "average" else state.network.state_dict()
            for state in (whole, resumed)
        )
        assert all(torch.equal(one[key], other[key]) for key in one)
    files = [(tmp_path / run / "state.safetensors").read_bytes() for run in ("whole", "parts")]
    assert files[0] == files[1]


def test_gradients_are_clipped_to_the_norm_of_the_schedule(tmp_path):
    moved = []
    for norm in (None, 1e-3):
        state = fresh()
        before = state.network.weight.detach().clone()
        (tmp_path / str(norm)).mkdir()
        schedule = Schedule(1, 1, 1, max_gradient_norm=norm)
        run_training(Line(schedule), state, tmp_path / str(norm), "cpu", lambda row: None)
        moved.append(float((state.network.weight.detach() - before).abs()))
    assert moved[1] == pytest.approx(1e-4, rel=1e-3)  # learning rate times norm
    assert moved[0] > 10 * moved[1]
