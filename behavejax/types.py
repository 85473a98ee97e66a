"""Array aliases. Axis letters: B batch, T time, C channel, H W space, K codes or states, D durations."""

from collections.abc import Mapping
from typing import Any

import jax
from jaxtyping import Array, Float

Key = jax.Array
"""A typed JAX key (`jax.random.key`)."""

Window = Float[Array, "height time channel"]
Variables = Mapping[str, Any]
Metrics = dict[str, Array]
