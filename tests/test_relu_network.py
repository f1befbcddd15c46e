"""The fused ReLU kernel against the plain recursion in 50 digits, near points included."""

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from helpers import refused

from ntklib.gram import gram
from ntklib.relu_network import ReluNetwork

FLOAT = "float64" if jax.config.jax_enable_x64 else "float32"
EPS = float(np.finfo(FLOAT).eps)


def exact(x: np.ndarray, y: np.ndarray, hidden: int, w: float, b: float) -> tuple[float, float]:
    """Σ and Θ at two points, layer by layer, by the definition."""
    with mpmath.workdps(50):
        x, y = ([mpmath.mpf(float(a)) for a in point] for point in (x, y))
        w, b = mpmath.mpf(w) ** 2, mpmath.mpf(b) ** 2
        q1, q2, c = (w * mpmath.fdot(u, v) / len(x) + b for u, v in ((x, x), (y, y), (x, y)))
        theta = c
        for _ in range(hidden):
            size = mpmath.sqrt(q1 * q2)
            angle = mpmath.acos(max(-1, min(1, c / size))) if size else mpmath.pi / 2
            slope = w * (mpmath.pi - angle) / (2 * mpmath.pi)
            arc = mpmath.sin(angle) + (mpmath.pi - angle) * mpmath.cos(angle)
            q1, q2, c = w * q1 / 2 + b, w * q2 / 2 + b, w * size * arc / (2 * mpmath.pi) + b
            theta = c + slope * theta
        return float(c), float(theta)


def points(d: int) -> np.ndarray:
    """Random points and some near, equal, opposite, scaled and zero ones."""
    x = np.random.default_rng(0).standard_normal((14, d))
    x[3] = x[2] * (1 + 1e-6) + 1e-7 * x[0]
    x[5], x[7], x[8] = x[4], -x[6], 30 * x[6]
    x[9] = -x[1] + 1e-4 * x[0]
    x[12] = 0
    return x.astype(FLOAT)


@pytest.mark.parametrize(("hidden", "w", "b"), [(1, 1.4, 0.0), (3, 1.2, 0.3), (6, 2**0.5, 0.0)])
def test_every_pair_has_its_digits(hidden: int, w: float, b: float) -> None:
    x = points(6)
    w, b = float(np.float32(w)), float(np.float32(b))
    wanted = np.array([[exact(p, q, hidden, w, b) for q in x] for p in x])
    for i, get in enumerate(("nngp", "ntk")):
        kernel = ReluNetwork(hidden, w, b, get)
        scale = np.sqrt(np.outer(wanted[..., i].diagonal(), wanted[..., i].diagonal()))
        for found in (kernel(x), gram(kernel, x), kernel(x, x.copy())):
            assert found.dtype == FLOAT
            error = np.abs(np.asarray(found, float) - wanted[..., i])
            assert (error / np.where(scale > 0, scale, 1)).max() < 10 * (hidden + 1) * EPS


def test_far_larger_and_smaller_points_do_not_overflow() -> None:
    x = points(6)[:3]
    big = np.asarray(ReluNetwork(3)(x * FLOAT_TYPE(1e15)))
    np.testing.assert_allclose(big, np.asarray(ReluNetwork(3)(x)) * 1e30, rtol=1e-5)


FLOAT_TYPE = np.dtype(FLOAT).type


def test_bad_arguments_are_refused() -> None:
    with refused(ValueError, "hidden: expected an integer ≥ 1, got 0"):
        ReluNetwork(0)
    with refused(ValueError, 'get: expected "ntk" or "nngp", got \'both\''):
        ReluNetwork(1, get="both")
    with refused(ValueError, "b_std: expected a finite number ≥ 0, got -1"):
        ReluNetwork(1, 1.0, -1.0)
    assert jnp.isfinite(ReluNetwork(2)(jnp.zeros((2, 3), FLOAT))).all()
