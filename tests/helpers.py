"""What the tests of the modules share."""

import re

import jax.numpy as jnp
import numpy as np
import pytest
from jax.typing import ArrayLike

# For what takes long and does not depend on the dtype: killed processes, random networks.
once = pytest.mark.skipif(jnp.result_type(float) == jnp.float32, reason="run in float64 alone")

TOLERANCE = {"float32": 1e-5, "float64": 1e-12}


def assert_close(actual: ArrayLike, expected: ArrayLike, *, times: float = 1.0) -> None:
    """Assert that two arrays have one shape and agree to the rounding of `actual`'s dtype.

    The tolerance, relative and absolute, is `times` that of the dtype: `times` says how much a
    calculation amplifies rounding, and is the same factor in float32 and in float64.
    """
    actual = np.asarray(actual)
    tolerance = times * TOLERANCE[actual.dtype.name]
    assert actual.shape == np.shape(expected)
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance)


def refused(error: type[Exception], message: str) -> pytest.RaisesExc:
    """A refusal whose whole message is this one, but for the note that JAX adds inside jit."""
    return pytest.raises(error, match=f"(?m)^{re.escape(message)}$")
