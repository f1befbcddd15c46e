"""The fast arccosine is within its proved error, against 40 digits of mpmath."""

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest

from ntklib import arccos

FLOAT = "float64" if jax.config.jax_enable_x64 else "float32"
EPS = float(np.finfo(FLOAT).eps)
GAPS = np.concatenate([np.linspace(0, 1, 201), 10.0 ** np.arange(-12, 0)]).astype(FLOAT)


def exact(gap: float) -> tuple[mpmath.mpf, mpmath.mpf]:
    """α = arccos(1 − g) and sin α − α cos α."""
    with mpmath.workdps(60):
        alpha = 2 * mpmath.asin(mpmath.sqrt(mpmath.mpf(float(gap)) / 2))
        return alpha, mpmath.sin(alpha) - alpha * mpmath.cos(alpha)


def relative(found: jax.Array, wanted: list) -> float:
    with mpmath.workdps(60):
        return max(
            float(abs(mpmath.mpf(float(a)) - b) / b)
            for a, b in zip(np.asarray(found), wanted, strict=True)
            if b
        )


def test_both_functions_are_right_to_the_last_digits() -> None:
    found = arccos.acute(jnp.asarray(GAPS)), arccos.defect(jnp.asarray(GAPS))
    for values, wanted in zip(found, zip(*map(exact, GAPS), strict=True), strict=True):
        assert values.dtype == FLOAT
        assert float(values[0]) == 0
        assert relative(values, wanted) < 3 * EPS


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("raised", [0, 1])
def test_the_degree_is_the_least_whose_proved_error_is_a_quarter_of_eps(dtype, raised) -> None:
    degree, quarter = arccos.DEGREES[dtype][raised], float(np.finfo(dtype).eps) / 4
    assert arccos.truncation(degree, raised) < quarter < arccos.truncation(degree - 1, raised)


@pytest.mark.parametrize("raised", [0, 1])
@pytest.mark.parametrize("degree", [2, 6, 11])
def test_the_proved_error_is_attained_at_a_right_angle_and_nowhere_passed(degree, raised) -> None:
    with mpmath.workdps(40):
        p = [mpmath.mpf(c) for c in arccos.polynomial(degree, raised)]

        def missed(g: float) -> mpmath.mpf:
            root = mpmath.sqrt(2 * mpmath.mpf(g)) * (mpmath.mpf(g) if raised else 1)
            return exact(g)[raised] / root - mpmath.fdot(
                p, [mpmath.mpf(g) ** k for k in range(degree + 1)]
            )

        least = mpmath.mpf(2) / 3 if raised else 1
        bound = arccos.truncation(degree, raised)
        assert abs(missed(1.0) / least / bound - 1) < 1e-4
        errors = [abs(missed(g)) / least for g in np.linspace(1e-6, 1, 300)]
        assert max(errors) < bound * (1 + 1e-4)
        # Far from a better polynomial it is not: minimax ones gain less than a factor of 2.
        assert sum(e > bound / 3 for e in errors) > 5


def test_arcsine() -> None:
    x = np.concatenate([np.linspace(-1, 1, 401), 10.0 ** np.arange(-9, 0)]).astype(FLOAT)
    with mpmath.workdps(60):
        wanted = [mpmath.asin(float(a)) for a in x]
        found = np.asarray(arccos.arcsin(jnp.asarray(x)))
        errors = [
            float(abs(a - b) / abs(b)) for a, b in zip(map(float, found), wanted, strict=True) if b
        ]
    assert max(errors) < 3 * EPS
