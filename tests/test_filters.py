"""Spectral filters and the closed-form flow, against ODE solvers, iteration and ridge."""

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
import scipy.integrate
import scipy.linalg
from helpers import assert_close, refused

from ntklib.filters import filtered, flow, gradient_descent, gradient_flow, ridge_filter
from ntklib.matrix_kernels import Tensor
from ntklib.rkhs import RBF, Gradient, Linear, Matern, interpolate, ridge

FLOAT = jnp.result_type(float)
EPS = float(np.finfo(FLOAT).eps)
rng = np.random.default_rng(4)
X = rng.normal(size=(6, 2)).astype(FLOAT)
Z = rng.normal(size=(4, 2)).astype(FLOAT)
R = rng.normal(size=(6, 2)).astype(FLOAT)
TENSOR = Tensor(Matern(0.5), np.array([[2.0, 0.5], [0.5, 1.0]], FLOAT))
CASES = {
    "scalar": (Matern(0.5), R[:, 0]),
    "columns": (Matern(0.5), R),
    "tensor": (TENSOR, R),
    "gradient": (Gradient(RBF()), R),
    "singular": (Linear(), R[:, 0]),
}
every_case = pytest.mark.parametrize(("kernel", "r"), CASES.values(), ids=CASES)


def flat(kernel, x1, x2):
    gram = np.asarray(kernel(x1, x2), "float64")
    if gram.ndim == 2:
        return gram
    n1, n2, m, _ = gram.shape
    return gram.transpose(0, 2, 1, 3).reshape(n1 * m, n2 * m)


@every_case
@pytest.mark.parametrize("time", [0, 0.7, 40.0])
def test_the_flow_solves_its_differential_equation(kernel, r, time):
    # ∂_t h = (1/N) K (r − h) on the data and, driven by it, at other points.
    n, columns = len(X), r.reshape(flat(kernel, X, X).shape[0], -1)
    on, off = flat(kernel, X, X) / n, flat(kernel, Z, X) / n

    def slope(_, state):
        h = state.reshape(-1, columns.shape[1])[: len(on)]
        return np.concatenate([on @ (columns - h), off @ (columns - h)]).ravel()

    start = np.zeros((len(on) + len(off)) * columns.shape[1])
    end = scipy.integrate.solve_ivp(slope, (0, time), start, rtol=1e-10, atol=1e-12).y[:, -1]
    end = end.reshape(-1, columns.shape[1])
    f = flow(kernel, X, r, time)
    np.testing.assert_allclose(f(X), end[: len(on)].reshape(r.shape), atol=1e-7 + 50 * EPS)
    expected = end[len(on) :].reshape(len(Z), *r.shape[1:])
    np.testing.assert_allclose(f(Z), expected, atol=1e-7 + 50 * EPS)


def test_the_residual_decays_as_the_exponential_of_the_gram_matrix():
    gram = flat(TENSOR, X, X)
    left = scipy.linalg.expm(-3.0 * gram / 6) @ R.ravel()
    assert_close(R - flow(TENSOR, X, R, 3.0)(X), left.reshape(6, 2), times=30)


def test_a_long_flow_interpolates():
    f, limit = flow(Matern(0.5), X, R, 1e4), interpolate(Matern(0.5), X, R)
    assert_close(f(Z), limit(Z), times=300)


@every_case
def test_ridge_is_a_filter(kernel, r):
    assert_close(
        filtered(kernel, X, r, ridge_filter(0.2))(Z), ridge(kernel, X, r, 1.2)(Z), times=100
    )


@every_case
@pytest.mark.parametrize(("rate", "steps"), [(0.3, 0), (0.3, 1), (0.3, 7), (5.0, 3)])
def test_descent_is_a_filter(kernel, r, rate, steps):
    gram = flat(kernel, X, X)
    columns = r.reshape(len(gram), -1).astype("float64")
    alpha = np.zeros_like(columns)
    for _ in range(steps):
        alpha += rate / 6 * (columns - gram @ alpha)
    f = filtered(kernel, X, r, gradient_descent(rate, steps))
    assert_close(f.coefficients, alpha.reshape(r.shape), times=300)


FILTERS = {
    "flow": (gradient_flow(3.7), lambda s: (1 - mpmath.exp(-mpmath.mpf(3.7) * s)) / s),
    "descent": (
        gradient_descent(1.2, 9),
        lambda s: (1 - (1 - mpmath.mpf(1.2) * s) ** 9) / s,
    ),
    "ridge": (ridge_filter(0.3), lambda s: 1 / (s + mpmath.mpf(0.3))),
}


@pytest.mark.parametrize(("g", "exact"), FILTERS.values(), ids=FILTERS)
def test_filters_keep_their_digits(g, exact):
    lam = np.array([1e-30, 1e-12, 1e-5, 0.02, 0.3, 0.41, 0.42, 0.9, 1.7, 2.3], FLOAT)
    with mpmath.workdps(60):
        expected = [float(exact(mpmath.mpf(float(s)))) for s in lam]
    assert_close(g(lam), expected, times=3)
    assert g(lam).dtype == FLOAT


def test_filters_have_their_limits_at_zero():
    zero = np.zeros(2, FLOAT)
    assert_close(gradient_flow(3.0)(zero), [3.0, 3.0])
    assert_close(gradient_descent(0.5, 8)(zero), [4.0, 4.0])
    assert_close(ridge_filter(0.25)(zero), [4.0, 4.0])
    for g in (gradient_flow(3.0), gradient_descent(0.5, 8), ridge_filter(0.25)):
        slope = jax.grad(lambda s, g=g: g(s[None])[0])
        assert np.isfinite(slope(jnp.zeros((), FLOAT)))


@pytest.mark.parametrize("dtype", sorted({"float32", FLOAT.name}))
def test_dtype_is_kept(dtype):
    f = flow(Matern(0.5), X.astype(dtype), R.astype(dtype), 2.0)
    assert f.coefficients.dtype == f(Z.astype(dtype)).dtype == dtype


def test_the_flow_passes_through_jit_vmap_and_grad():
    times = jnp.array([0.0, 0.5, 3.0], FLOAT)
    all_at_once = jax.jit(jax.vmap(lambda t: flow(Matern(0.5), X, R, t)(Z)))(times)
    for t, values in zip(times, all_at_once, strict=True):
        assert_close(values, flow(Matern(0.5), X, R, float(t))(Z), times=10)
    slope = jax.grad(lambda t: flow(Matern(0.5), X, R, t)(X).sum())(jnp.asarray(0.0, FLOAT))
    assert_close(slope, (Matern(0.5)(X) @ R).sum() / 6, times=10)


def test_a_negative_spectrum_is_refused():
    with pytest.raises(np.linalg.LinAlgError, match=r"^kernel: k\(x, x\) has the eigenvalue -"):
        flow(lambda a, b: -(a @ b.T), X, R, 1.0)


def test_arguments_are_checked():
    with refused(ValueError, "time: expected a finite number ≥ 0, got inf"):
        flow(Matern(0.5), X, R, np.inf)
    with refused(ValueError, "time: expected a finite number ≥ 0, got -1"):
        gradient_flow(-1)
    with refused(ValueError, "rate: expected a finite number > 0, got 0"):
        gradient_descent(0, 3)
    with refused(ValueError, "steps: expected an integer ≥ 0, got -3"):
        gradient_descent(1, -3)
    with refused(ValueError, "rho: expected a finite number > 0, got 0"):
        ridge_filter(0)
    with refused(ValueError, "residual: expected shape (6, 2), got (6,)"):
        flow(TENSOR, X, R[:, 0], 1.0)
    with refused(ValueError, "residual: expected shape (6,) or (6, m), got (5, 2)"):
        flow(Matern(0.5), X, R[:5], 1.0)
    with pytest.raises(ValueError, match=r"^kernel\(x\): expected a symmetric matrix"):
        flow(lambda a, b: a @ (b + 1).T, X, R, 1.0)
