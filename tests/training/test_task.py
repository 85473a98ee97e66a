"""Plans: steps are whole calls, calls are whole evaluations."""

import pytest

from behavejax.config import Config, TrainConfig
from behavejax.training.task import make_plan


@pytest.mark.parametrize(
  ("settings", "steps", "calls"),
  [
    ({"steps": 100, "steps_per_call": 1, "evaluations": 10}, 100, 100),
    ({"steps": 101, "steps_per_call": 1, "evaluations": 10}, 110, 110),
    ({"steps": 30, "steps_per_call": 8, "evaluations": 2}, 32, 4),
    ({"steps": 3, "steps_per_call": 8, "evaluations": 5}, 3, 1),
    ({"epochs": 2.0, "batch_size": 10, "steps_per_call": 1, "evaluations": 1}, 20, 20),
  ],
)
def test_plans_are_rounded_up(settings, steps, calls):
  plan = make_plan(Config(train=TrainConfig(**settings)), windows=105)
  assert (plan.steps, plan.calls) == (steps, calls)
  assert plan.calls % plan.calls_per_evaluation == 0
