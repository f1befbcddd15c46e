"""RBF, Laplace and Matérn kernels against 50 digits, scikit-learn and their definitions."""

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from helpers import assert_close, refused
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.gaussian_process import kernels as sklearn_kernels
from sklearn.metrics import pairwise

from ntklib.stationary import RBF, Laplace, Matern, Stationary

FLOAT = jnp.result_type(float)
EPS = float(np.finfo(FLOAT).eps)
LENGTH = 0.75  # exact in binary, so that 50 digits see the number that float32 sees


def bessel(nu):
    """The Matérn function in its general form, 2^(1−ν)/Γ(ν) (√(2ν) r)^ν K_ν(√(2ν) r)."""

    def value(r):
        if r == 0:
            return mpmath.mpf(1)
        s = mpmath.sqrt(2 * nu) * r
        return 2 ** (1 - nu) / mpmath.gamma(nu) * s**nu * mpmath.besselk(nu, s)

    return value


KERNELS = {
    "rbf": (RBF(LENGTH), lambda r: mpmath.exp(-(r**2) / 2)),
    "laplace": (Laplace(LENGTH), lambda r: mpmath.exp(-r)),
    "matern 1/2": (Matern(LENGTH, 0.5), bessel(mpmath.mpf(1) / 2)),
    "matern 3/2": (Matern(LENGTH, 1.5), bessel(mpmath.mpf(3) / 2)),
    "matern 5/2": (Matern(LENGTH, 2.5), bessel(mpmath.mpf(5) / 2)),
}
every_kernel = pytest.mark.parametrize(("kernel", "h"), KERNELS.values(), ids=KERNELS)

rng = np.random.default_rng(7)
X = rng.normal(size=(6, 3)).astype(FLOAT)
NEAR = X + np.geomspace(1e-9, 1.0, 6)[:, None].astype(FLOAT)  # from 1e-9 on: equal in float32
TINY = (1e-9 * rng.normal(size=(6, 3))).astype(FLOAT)


def exactly(x, y, length=LENGTH):
    """‖x − y‖ / length, of the given binary numbers, in 50 digits."""
    squares = [
        (mpmath.mpf(float(a)) - mpmath.mpf(float(b))) ** 2 for a, b in zip(x, y, strict=True)
    ]
    return mpmath.sqrt(sum(squares)) / mpmath.mpf(length)


@every_kernel
@pytest.mark.parametrize("second", [X, NEAR, TINY], ids=["equal", "near", "far"])
def test_values_to_fifty_digits(kernel, h, second):
    with mpmath.workdps(50):
        expected = [[float(h(exactly(x, y))) for y in second] for x in X]
    assert_close(kernel(X, second), expected)


@every_kernel
@pytest.mark.parametrize("length", [1e-9, 1e-3])
def test_values_at_tiny_distances_and_length_scales(kernel, h, length):
    kernel = type(kernel)(length, *([kernel.nu] if isinstance(kernel, Matern) else []))
    with mpmath.workdps(50):
        expected = [[float(h(exactly(x, y, length))) for y in TINY] for x in TINY]
    assert_close(kernel(TINY), expected)


@every_kernel
def test_far_from_the_origin_nothing_is_lost(kernel, h):
    x = (4096 + np.arange(6)[:, None] / 2**11 * np.array([[1, -1, 2]])).astype(FLOAT)
    kernel = type(kernel)(2.0**-10, *([kernel.nu] if isinstance(kernel, Matern) else []))
    with mpmath.workdps(50):
        expected = [[float(h(exactly(a, b, 2.0**-10))) for b in x] for a in x]
    assert_close(kernel(x), expected)


def test_values_agree_with_scikit_learn():
    y = X[::-1] * np.asarray(0.5, FLOAT)
    assert_close(RBF(0.75)(X, y), pairwise.rbf_kernel(X, y, gamma=1 / (2 * 0.75**2)), times=10)
    for nu in (0.5, 1.5, 2.5):
        theirs = sklearn_kernels.Matern(length_scale=0.75, nu=nu)
        assert_close(Matern(0.75, nu)(X, y), theirs(X, y), times=10)
    line = X[:, :1]  # in one dimension the L1 and the Euclidean distance are one
    assert_close(Laplace(0.75)(line), pairwise.laplacian_kernel(line, gamma=1 / 0.75), times=10)


def test_defaults():
    for k in (RBF, Laplace, Matern):
        assert k() == k(1.0)
    assert Matern() == Matern(1.0, nu=1.5)


@every_kernel
def test_gram_matrices_are_exactly_symmetric_with_an_exact_unit_diagonal(kernel, h):
    x = np.concatenate([X, X[:2], NEAR, TINY])
    gram = np.asarray(kernel(x))
    np.testing.assert_array_equal(gram, gram.T)
    np.testing.assert_array_equal(np.diag(gram), 1)
    np.testing.assert_array_equal(gram[[0, 1], [6, 7]], 1)
    np.testing.assert_array_equal(kernel(X, NEAR), np.asarray(kernel(NEAR, X)).T)


@every_kernel
@pytest.mark.parametrize("dtype", sorted({"float32", FLOAT.name}))
@pytest.mark.parametrize("length", [0.3, np.float64(0.3), np.float32(0.3), 1], ids=repr)
def test_dtype_is_kept(kernel, h, dtype, length):
    kernel = type(kernel)(length, *([kernel.nu] if isinstance(kernel, Matern) else []))
    assert kernel(X.astype(dtype)).dtype == dtype


@every_kernel
def test_the_length_scale_is_the_unit_of_the_points(kernel, h):
    half = jax.tree.map(lambda length: length / 2, kernel)
    np.testing.assert_array_equal(half(X / 2, NEAR / 2), kernel(X, NEAR))
    lengths = jnp.asarray([LENGTH, LENGTH / 2])
    stacked = jax.jit(jax.vmap(lambda k: k(X)))(jax.tree.map(lambda _: lengths, kernel))
    assert_close(stacked, [kernel(X), half(X)])


# Derivatives


def slope_in_x(h, x, y):
    """∂k/∂x to 50 digits; 0 by symmetry (for the cusp: by convention) at x = y."""
    r = exactly(x, y)
    if r == 0:
        return [0.0] * len(x)
    dh = mpmath.diff(h, r, h=r * mpmath.mpf("1e-20"))
    unit = [
        (mpmath.mpf(float(a)) - mpmath.mpf(float(b))) / (r * LENGTH**2)
        for a, b in zip(x, y, strict=True)
    ]
    return [float(dh * u) for u in unit]


def slope_in_length(h, x, y):
    """∂k/∂length to 50 digits; 0 at x = y, where k is 1 for every length."""
    r = exactly(x, y)
    return 0.0 if r == 0 else float(-mpmath.diff(h, r, h=r * mpmath.mpf("1e-20")) * r / LENGTH)


@every_kernel
def test_derivatives_to_fifty_digits(kernel, h):
    x = np.concatenate([X, X, TINY])
    y = np.concatenate([X, NEAR, TINY[::-1] / 2]).astype(FLOAT)

    @jax.jit
    @jax.vmap
    def slopes(a, b):
        return (
            jax.grad(kernel.evaluate)(a, b),
            jax.grad(kernel.evaluate, argnums=1)(a, b),
            jax.jacfwd(kernel.evaluate)(a, b),
            jax.grad(lambda k: k.evaluate(a, b))(kernel).length_scale,
        )

    dx, dy, forward, dlength = slopes(x, y)
    with mpmath.workdps(50):
        assert_close(dx, [slope_in_x(h, a, b) for a, b in zip(x, y, strict=True)], times=10)
        expected = [slope_in_length(h, a, b) for a, b in zip(x, y, strict=True)]
    assert_close(dlength, expected, times=10)
    assert_close(dy, -dx)
    assert_close(forward, dx)


# h''(0); at a cusp 0 by convention, as the first derivative
SECOND_AT_ZERO = {"rbf": -1, "laplace": 0, "matern 1/2": 0, "matern 3/2": -3, "matern 5/2": -5 / 3}


@pytest.mark.parametrize("name", KERNELS)
def test_second_derivatives(name):
    kernel, h = KERNELS[name]
    x, y = np.array([[0.5], [0.5]], FLOAT), np.array([[-0.25], [0.5]], FLOAT)
    apart, equal = jax.jit(jax.vmap(jax.hessian(kernel.evaluate)))(x, y)
    with mpmath.workdps(50):
        expected = mpmath.diff(h, exactly(x[0], y[0]), 2) / mpmath.mpf(LENGTH) ** 2
    assert_close(apart, [[float(expected)]], times=10)
    assert_close(equal, [[SECOND_AT_ZERO[name] / LENGTH**2]])


# Positive definiteness

length = st.floats(0.25, 4.0, width=32)
stationary = st.one_of(
    st.builds(RBF, length),
    st.builds(Laplace, length),
    st.builds(Matern, length, nu=st.sampled_from([0.5, 1.5, 2.5])),
)


@settings(max_examples=40)
@given(stationary, arrays(FLOAT, (6, 3), elements=st.floats(-4, 4, width=16)))
def test_gram_matrices_are_positive_semidefinite_with_entries_up_to_one(kernel, x):
    gram = np.asarray(kernel(x), "float64")
    assert np.linalg.eigvalsh(gram)[0] >= -20 * EPS
    assert ((gram >= 0) & (gram <= 1)).all()


@every_kernel
def test_distinct_points_give_a_definite_matrix(kernel, h):
    grid = (np.arange(4.0)[:, None] * np.ones((1, 3))).astype(FLOAT)
    assert np.linalg.eigvalsh(np.asarray(kernel(grid)))[0] > 0.1


# Refusals


@pytest.mark.parametrize("make", [RBF, Laplace, Matern])
def test_length_scales_are_positive_numbers(make):
    for value in (0, -1, -1e-9, np.nan, np.inf):
        with refused(ValueError, f"length_scale: expected a finite number > 0, got {value:g}"):
            make(value)
    for value in ("1", None, [1.0], 1j, True):
        with refused(TypeError, f"length_scale: expected a real number, got {value!r}"):
            make(value)


@pytest.mark.parametrize("nu", [1.0, 0, 3.5, -0.5, np.inf, np.nan, "1.5", None], ids=repr)
def test_three_smoothnesses(nu):
    with refused(ValueError, f"nu: expected 0.5, 1.5 or 2.5, got {nu!r}"):
        Matern(nu=nu)


def test_the_base_class_is_abstract():
    with pytest.raises(TypeError, match="abstract"):
        Stationary()


@pytest.mark.parametrize("nu", [0.5, 1.5, 2.5])
def test_points_too_far_apart_for_their_distance_to_be_a_float_are_unrelated(nu: float) -> None:
    far = jnp.array([[0.0], [np.sqrt(np.finfo(FLOAT).max) * 10]], FLOAT)
    assert Matern(1.0, nu)(far).tolist() == [[1.0, 0.0], [0.0, 1.0]]
