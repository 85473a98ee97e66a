"""Moving digits: where they are, that nothing leaks between splits, that the seed decides all."""

import numpy as np
import pytest

from behavejax.config_frames import FramesConfig, MovingDigitsConfig
from behavejax.data import moving_digits as module
from behavejax.data.images import read_digits
from behavejax.data.moving_digits import bounce, moving_digits
from behavejax.errors import InputError


def make(seed=0, *, videos=20, digits=1, speed=1.0, **settings):
  moving = MovingDigitsConfig(videos=videos, frames=12, digits=digits, speed=speed)
  return moving_digits(FramesConfig(name="moving_digits", moving=moving, **settings), seed)


def test_bouncing_equals_stepping():
  start, velocity, room = np.array([3.0, 0.5]), np.array([0.7, -1.3]), np.array([5.0, 9.0])
  place, speed, walked = start.copy(), velocity.copy(), []
  for _ in range(60):
    walked.append(place.copy())
    place = place + speed
    for axis in range(2):
      if place[axis] < 0 or place[axis] > room[axis]:
        place[axis] = -place[axis] if place[axis] < 0 else 2 * room[axis] - place[axis]
        speed[axis] *= -1
  np.testing.assert_allclose(bounce(start, velocity, room, 60), walked, atol=1e-9)


def test_shapes_and_labels():
  found = make()
  assert found.steps.shape == (240, 16, 16, 1)
  assert found.steps.dtype == np.uint8
  assert found.bounds.tolist() == list(range(0, 241, 12))
  assert set(found.labels) <= set(range(10))
  assert len(found.classes) == 10
  several = make(digits=3, size=(40, 24))
  assert several.steps.shape == (240, 40, 24, 1)
  assert set(several.labels) == {-1}
  assert several.classes == ()


def test_the_seed_decides_all():
  np.testing.assert_array_equal(make(3).steps, make(3).steps)
  assert (make(3).steps != make(4).steps).any()


def test_a_digit_keeps_its_ink_and_moves_at_its_speed():
  """Bilinear shifting keeps the sum; the centre of mass goes as far as the speed allows, and not less than half."""
  found = make(size=(32, 32), speed=2.0)
  videos = found.steps.reshape(20, 12, 32, 32).astype(float)
  ink = videos.sum((2, 3))
  np.testing.assert_allclose(ink, ink.mean(1, keepdims=True) * np.ones(12), rtol=0.02)
  places = np.stack([(videos * grid).sum((2, 3)) / ink for grid in np.indices((32, 32))], -1)
  steps = np.abs(np.diff(places, axis=1))
  assert steps.max() < 2.02
  assert np.median(steps) > 1.0
  assert (videos[:, :, 1:-1, 1:-1].sum((2, 3)) > 0.5 * ink).all()


def test_splits_share_no_digit(monkeypatch):
  """Flat squares in place of digits, each of its own brightness."""
  brightness = np.arange(50, 250, dtype=np.uint8)
  squares = read_digits()._replace(
    steps=np.broadcast_to(brightness[:, None, None, None], (200, 8, 8, 1)), labels=np.zeros(200, np.int32)
  )  # fmt: skip
  monkeypatch.setattr(module, "read_digits", lambda: squares)
  found = make(videos=300, val=0.2, test=0.2)
  assert np.bincount(found.split).tolist() == [180, 60, 60]
  seen = found.steps.reshape(300, -1).max(1)
  train, val, test = (set(seen[found.split == i].tolist()) for i in range(3))
  assert not train & val | train & test | val & test
  assert min(len(train), len(val), len(test)) > 20


@pytest.mark.parametrize(
  ("settings", "message"),
  [
    ({"size": (12, 30)}, "too small for digits to move in"),
    ({"videos": 2}, "2 videos are too few for 1 for test and 1 for val: nothing is left for train"),
    ({"test": 30.0}, "20 videos are too few"),
  ],
)
def test_too_little(settings, message):
  with pytest.raises(InputError, match=message):
    make(**settings)
