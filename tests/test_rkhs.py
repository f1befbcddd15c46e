"""Functions of a space, regression in it and Mercer pairs, against other software and theory."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from helpers import assert_close, refused
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import integrate
from sklearn.kernel_ridge import KernelRidge

from ntklib import kernels, matrix_kernels, rkhs, stationary
from ntklib.kernels import Linear, Polynomial, as_kernel
from ntklib.matrix_kernels import Gradient, Tensor
from ntklib.rkhs import Element, Mercer, interpolate, mercer, ridge
from ntklib.stationary import RBF, Laplace, Matern

FLOAT = jnp.result_type(float)
EPS = float(np.finfo(FLOAT).eps)
rng = np.random.default_rng(11)
X = rng.normal(size=(6, 2)).astype(FLOAT)
Z = rng.normal(size=(4, 2)).astype(FLOAT)
Y = rng.normal(size=6).astype(FLOAT)
Y2 = rng.normal(size=(6, 2)).astype(FLOAT)
B = np.array([[2.0, 0.5], [0.5, 1.0]], FLOAT)
TENSOR = Tensor(Matern(0.5), B)


def brownian(x1, x2=None):
    """min(s, t), the covariance of Brownian motion; ‖f‖² = ∫ f'² for f(0) = 0."""
    x2 = x1 if x2 is None else x2
    return jnp.minimum(x1, x2.T)


def constant(gram):
    """A 'kernel' with this Gram matrix, whatever the points: to test what is made of it."""
    gram = np.asarray(gram, FLOAT)
    return lambda x1, x2: gram


def test_the_module_offers_the_kernels_too():
    for module in (kernels, stationary, matrix_kernels):
        for name in set(module.__all__) - {"as_kernel", "Stationary"}:
            assert getattr(rkhs, name) is getattr(module, name)
            assert name in rkhs.__all__
    assert all(hasattr(rkhs, name) for name in rkhs.__all__)


# Elements


@pytest.mark.parametrize(
    "kernel",
    [Matern(0.5), Linear(), lambda x1, x2: x1 @ x2.T],
    ids=["matern", "linear", "function"],
)
def test_an_element_is_the_sum_over_its_centres(kernel):
    f = Element(kernel, X, Y)
    k = as_kernel(kernel)
    expected = [
        sum(float(k(z[None], x[None])[0, 0]) * a for x, a in zip(X, Y, strict=True)) for z in Z
    ]
    assert f(Z).shape == (4,)
    assert_close(f(Z), expected, times=10)


def test_several_columns_are_several_functions():
    f = Element(Matern(0.5), X, Y2)
    assert f(Z).shape == (4, 2)
    for m in range(2):
        assert_close(f(Z)[:, m], Element(Matern(0.5), X, Y2[:, m])(Z))


def test_an_element_of_a_matrix_valued_kernel():
    f = Element(TENSOR, X, Y2)
    gram = np.asarray(TENSOR(Z, X))
    expected = [sum(gram[i, j] @ Y2[j] for j in range(6)) for i in range(4)]
    assert f(Z).shape == (4, 2)
    assert_close(f(Z), expected, times=10)
    square = sum(Y2[i] @ np.asarray(TENSOR(X))[i, j] @ Y2[j] for i in range(6) for j in range(6))
    assert_close(f.norm() ** 2, square, times=10)


def test_coefficients_match_a_matrix_valued_kernel():
    for coefficients in (Y, np.ones((6, 3), FLOAT)):
        shape = coefficients.shape
        with refused(ValueError, f"coefficients: expected shape (6, 2), got {shape}"):
            Element(TENSOR, X, coefficients)(Z)


def test_inner_product_and_norm():
    f, g = Element(Matern(0.5), X, Y), Element(Matern(0.5), Z, Y[:4])
    assert f.inner(g).shape == ()
    gram = np.asarray(Matern(0.5)(X, Z))
    assert_close(
        f.inner(g), sum(Y[i] * gram[i, j] * Y[j] for i in range(6) for j in range(4)), times=10
    )
    assert_close(f.norm() ** 2, Y @ np.asarray(Matern(0.5)(X)) @ Y, times=10)
    pair = Element(Matern(0.5), X, Y2)
    assert_close(
        pair.norm() ** 2, sum(Element(Matern(0.5), X, y).norm() ** 2 for y in Y2.T), times=10
    )


@pytest.mark.parametrize("dtype", sorted({"float32", FLOAT.name}))
def test_dtype_is_kept(dtype):
    x, y = X.astype(dtype), Y.astype(dtype)
    f = ridge(Matern(0.5), x, y, 0.1)
    g = interpolate(Matern(0.5), x, y)
    for value in (f(x), f.norm(), f.inner(g), (f - np.float64(0.3) * g).coefficients):
        assert value.dtype == dtype
    pairs = mercer(Matern(0.5), x, 6)
    assert pairs.eigenvalues.dtype == pairs(x).dtype == dtype


def test_norm_for_brownian_motion_is_the_energy_of_the_slope():
    # f = Σ α_i min(·, t_i) is piecewise linear with slope Σ_{t_i > t} α_i.
    t = np.array([[0.25], [0.5], [1.0]], FLOAT)
    alpha = np.array([1.0, -3.0, 0.5], FLOAT)
    slopes = np.array([1.0 - 3.0 + 0.5, -3.0 + 0.5, 0.5])
    f = Element(brownian, t, alpha)
    assert_close(f.norm() ** 2, (slopes**2 * [0.25, 0.25, 0.5]).sum())
    assert_close(f(t), np.cumsum(slopes * [0.25, 0.25, 0.5]))


def test_norm_for_laplace_on_the_line_is_a_sobolev_norm():
    length, centres, alpha = 0.75, [-0.5, 0.0, 1.25], [1.0, -2.0, 0.5]

    def value(t):
        return sum(a * np.exp(-abs(t - c) / length) for a, c in zip(alpha, centres, strict=True))

    def slope(t):
        parts = [
            -np.sign(t - c) / length * a * np.exp(-abs(t - c) / length)
            for a, c in zip(alpha, centres, strict=True)
        ]
        return sum(parts)

    def density(t):
        return (length * slope(t) ** 2 + value(t) ** 2 / length) / 2

    ends = [-np.inf, *centres, np.inf]
    square = sum(
        integrate.quad(density, a, b, epsabs=1e-13, epsrel=1e-13)[0]
        for a, b in itertools.pairwise(ends)
    )
    f = Element(Laplace(length), np.array(centres, FLOAT)[:, None], np.array(alpha, FLOAT))
    assert_close(f.norm() ** 2, square, times=10)


def test_norm_for_the_linear_kernel_is_that_of_the_weights():
    assert_close(Element(Linear(), X, Y).norm(), np.linalg.norm(X.T @ Y), times=10)


def test_reproducing_property():
    f = Element(Matern(0.5), X, Y)
    one = np.ones(1, FLOAT)
    assert_close([f.inner(Element(Matern(0.5), z[None], one)) for z in Z], f(Z), times=10)
    f = Element(TENSOR, X, Y2)
    for z in Z[:2]:
        for e in np.eye(2, dtype=FLOAT):
            assert_close(f.inner(Element(TENSOR, z[None], e[None])), f(z[None])[0] @ e, times=10)


coefficients = arrays(FLOAT, (4,), elements=st.floats(-2, 2, width=16))


@settings(max_examples=30)
@given(coefficients, coefficients, coefficients, st.floats(-2, 2, width=16))
def test_elements_are_a_vector_space_with_an_inner_product(a, b, c, s):
    f, g, h = Element(RBF(), X[:4], a), Element(RBF(), Z, b), Element(RBF(), Z, c)
    assert_close((f + g)(Z), f(Z) + g(Z), times=30)
    assert_close((f - g)(Z), f(Z) - g(Z), times=30)
    assert_close((s * f)(Z), s * np.asarray(f(Z)), times=30)
    assert_close((f * s)(Z), (s * f)(Z))
    assert_close(f.inner(g), g.inner(f), times=30)
    assert_close((f + s * g).inner(h), f.inner(h) + s * g.inner(h), times=300)
    assert_close((s * f).norm(), abs(s) * f.norm(), times=300)
    assert (f - f).norm() <= 30 * np.sqrt(EPS)
    assert abs(f.inner(g)) <= f.norm() * g.norm() + 300 * EPS
    assert (f + g).norm() <= f.norm() + g.norm() + 300 * EPS


def test_sums_of_several_columns():
    f, g = Element(RBF(), X, Y2), Element(RBF(), Z, Y2[:4])
    assert (f + g).centres.shape == (10, 2)
    assert_close((f - 2 * g)(Z), f(Z) - 2 * np.asarray(g(Z)), times=10)
    f, g = Element(TENSOR, X, Y2), Element(TENSOR, Z, Y2[:4])
    assert_close((f - 2 * g)(Z), f(Z) - 2 * np.asarray(g(Z)), times=10)


def test_only_numbers_multiply():
    f = Element(RBF(), X, Y)
    for scalar in (Y, "2", None):
        with pytest.raises(TypeError, match=r"^scalar: expected a real number, got "):
            f * scalar
    with refused(ValueError, "scalar: expected a finite number, got nan"):
        np.nan * f


@pytest.mark.parametrize("combine", [Element.inner, Element.__add__, Element.__sub__])
def test_functions_of_two_spaces_are_kept_apart(combine):
    f = Element(RBF(), X, Y)
    told = "other: expected a function of RBF(length_scale=1.0), got "
    with refused(ValueError, told + "RBF(length_scale=2.0)"):
        combine(f, Element(RBF(2.0), X, Y))
    with refused(ValueError, told + "Laplace(length_scale=1.0)"):
        combine(f, Element(Laplace(), X, Y))
    with refused(ValueError, "other.centres: expected shape (n, 2), got (6, 1)"):
        combine(f, Element(RBF(), X[:, :1], Y))
    with refused(ValueError, "other.coefficients: expected shape (4,), got (4, 2)"):
        combine(f, Element(RBF(), Z, Y2[:4]))
    with refused(ValueError, "other.coefficients: expected shape (4, 2), got (4,)"):
        combine(Element(RBF(), X, Y2), Element(RBF(), Z, Y[:4]))


def test_a_negative_square_past_rounding_is_refused():
    def with_square(square):
        # ⟨f, f⟩ = −δ² and Σ |α||f| = 2δ: a ratio of −δ/2, against 100 n eps = 200 eps.
        return Element(constant(-np.ones((2, 2))), X[:2], np.array([1, -1 + square], FLOAT)).norm()

    assert with_square(398 * EPS) == 0
    with pytest.raises(ValueError, match=r"^kernel: ⟨f, f⟩ = -\S+ < 0, so it is not a kernel$"):
        with_square(402 * EPS)
    with refused(ValueError, "kernel: ⟨f, f⟩ = -4 < 0, so it is not a kernel"):
        Element(constant(-np.ones((2, 2))), X[:2], np.ones(2, FLOAT)).norm()


@pytest.mark.parametrize(
    ("centres", "coefs", "error", "message"),
    [
        (X[0], Y, ValueError, "centres: expected shape (n, d), got (2,); one-dimensional points"),
        (X, Y[:5], ValueError, "coefficients: expected shape (6,) or (6, m), got (5,)"),
        (X, Y2[None], ValueError, "coefficients: expected shape (6,) or (6, m), got (1, 6, 2)"),
        (X * np.inf, Y, ValueError, "centres: 12 of 12 entries are NaN or infinite"),
        (X, Y * np.nan, ValueError, "coefficients: 6 of 6 entries are NaN or infinite"),
        (X, [1] * 6, TypeError, "coefficients: expected float32 or float64, got int64"),
        (X.astype(int), Y, TypeError, "centres: expected float32 or float64, got int64"),
    ],
)
def test_arguments_of_elements_are_checked(centres, coefs, error, message):
    with pytest.raises(error) as refusal:
        Element(RBF(), centres, coefs)
    assert str(refusal.value).startswith(message)


def test_elements_have_one_dtype_and_a_kernel():
    with jax.enable_x64(True):
        message = "expected one dtype, got centres float64, coefficients float32"
        with refused(TypeError, message):
            Element(RBF(), X.astype("float64"), Y.astype("float32"))
    with refused(TypeError, "kernel: expected a function k(x1, x2), got 'rbf'"):
        Element("rbf", X, Y)


def test_elements_pass_through_jit_and_grad():
    f, g = Element(RBF(0.5), X, Y), Element(RBF(0.5), Z, Y[:4])
    assert_close(jax.jit(lambda f, g: (f + 2.0 * g).norm())(f, g), (f + 2.0 * g).norm(), times=10)
    assert_close(jax.jit(lambda f, g: f.inner(g))(f, g), f.inner(g), times=10)
    slope = jax.jit(jax.grad(lambda f: f.norm() ** 2 / 2))(f)
    assert_close(slope.coefficients, RBF(0.5)(X) @ Y, times=10)
    assert np.isfinite(slope.centres).all()
    assert np.isfinite(slope.kernel.length_scale)


# Interpolation and ridge

REGRESSED = {
    "matern": (Matern(0.5), Y),
    "two outputs": (Matern(0.5), Y2),
    "one column": (Matern(0.5), Y2[:, :1]),
    "tensor": (TENSOR, Y2),
    "gradient": (Gradient(RBF()), Y2),
    "function": (lambda x1, x2: jnp.exp(-((x1[:, None] - x2[None]) ** 2).sum(-1)), Y),
}
every_case = pytest.mark.parametrize(("kernel", "y"), REGRESSED.values(), ids=REGRESSED)


def flat(gram):
    """A Gram matrix as one matrix, nm × nm where it is matrix-valued."""
    gram = np.asarray(gram, "float64")
    if gram.ndim == 2:
        return gram
    n1, n2, m, _ = gram.shape
    return gram.transpose(0, 2, 1, 3).reshape(n1 * m, n2 * m)


@every_case
def test_interpolation_meets_the_data_as_scipy_solves_it(kernel, y):
    f = interpolate(kernel, X, y)
    assert_close(f(X), y, times=100)
    gram = flat(as_kernel(kernel)(X))
    right = y.reshape(len(gram), -1).astype("float64")
    alpha = scipy.linalg.solve(gram, right, assume_a="pos")
    assert_close(f.coefficients, alpha.reshape(y.shape), times=300)
    np.testing.assert_array_equal(f.centres, X)
    assert f.kernel == as_kernel(kernel)


@pytest.mark.parametrize(("kernel", "y"), [(Matern(0.5), Y), (TENSOR, Y2)], ids=["one", "tensor"])
def test_the_interpolant_has_the_least_norm(kernel, y):
    f = interpolate(kernel, X, y)
    gram = flat(as_kernel(kernel)(X))
    right = y.reshape(len(gram), -1).astype("float64")
    assert_close(f.norm() ** 2, np.sum(right * scipy.linalg.solve(gram, right)), times=300)
    for seed in range(3):
        values = np.random.default_rng(seed).normal(size=(4, *y.shape[1:])).astype(FLOAT)
        there = np.concatenate([X, Z])
        other = interpolate(kernel, there, np.concatenate([y, values]))  # through the data too
        assert_close(other(X), y, times=1000)
        assert other.norm() > 1.01 * f.norm()
        assert_close(f.inner(other) / f.norm() ** 2, 1.0, times=1000)  # f ⊥ other − f


@every_case
def test_ridge_is_where_the_cost_is_stationary(kernel, y):
    @jax.jit
    @jax.grad
    def slope(alpha, penalty):
        f = Element(kernel, X, alpha)
        return ((f(X) - y) ** 2).sum() + penalty * f.norm() ** 2

    gram = flat(as_kernel(kernel)(X))
    right = y.reshape(len(gram), -1).astype("float64")
    for penalty in (1e-2, 3.0):
        f = ridge(kernel, X, y, penalty)
        assert_close(slope(f.coefficients, penalty), np.zeros(y.shape), times=100)
        alpha = np.linalg.solve(gram + penalty * np.eye(len(gram)), right)
        assert_close(f.coefficients, alpha.reshape(y.shape), times=100)


@pytest.mark.parametrize("y", [Y, Y2], ids=["one", "two"])
@pytest.mark.parametrize("penalty", [1e-3, 1, np.float64(0.5)], ids=repr)
def test_ridge_agrees_with_scikit_learn(y, penalty):
    theirs = KernelRidge(alpha=penalty, kernel="rbf", gamma=1 / (2 * 0.75**2)).fit(
        X.astype("float64"), y.astype("float64")
    )
    f = ridge(RBF(0.75), X, y, penalty)
    assert_close(f(Z), theirs.predict(Z.astype("float64")), times=300)
    assert_close(f.coefficients, theirs.dual_coef_, times=1000)


def test_ridge_tends_to_the_interpolant():
    f = interpolate(Matern(0.5), X, Y)
    ridges = [ridge(Matern(0.5), X, Y, p).coefficients for p in (1e-1, 1e-2, 1e-3)]
    gaps = [Element(Matern(0.5), X, alpha - f.coefficients).norm() for alpha in ridges]
    assert 8 < gaps[0] / gaps[1] < 12
    assert 9 < gaps[1] / gaps[2] < 11


def test_ridge_makes_do_with_equal_points():
    x = np.concatenate([X, X[:1]])
    y = np.concatenate([Y, -Y[:1]])
    gram = flat(Matern(0.5)(x))
    expected = gram @ np.linalg.solve(gram + 0.1 * np.eye(7), y)
    assert_close(ridge(Matern(0.5), x, y, 0.1)(x), expected, times=100)


def test_regression_passes_through_jit_vmap_and_grad():
    def size(kernel, x, y, penalty):
        return ridge(kernel, x, y, penalty).norm() ** 2 + interpolate(kernel, x, y).norm() ** 2

    kernel = Matern(0.5)
    slopes = jax.jit(jax.value_and_grad(size, argnums=(0, 3)))
    value, (in_kernel, in_penalty) = slopes(kernel, X, Y, 0.1)
    assert_close(value, size(kernel, X, Y, 0.1), times=100)
    both = jax.jit(jax.vmap(lambda y: ridge(kernel, X, y, 0.1).coefficients, in_axes=1))(Y2)
    assert_close(both.T, ridge(kernel, X, Y2, 0.1).coefficients, times=100)
    # d/dp yᵀ(K+p)⁻¹K(K+p)⁻¹y = −2 yᵀ(K+p)⁻²K(K+p)⁻¹y, and d/dℓ from differences of it.
    gram = flat(kernel(X))
    inverse = np.linalg.inv(gram + 0.1 * np.eye(6))
    assert_close(in_penalty, -2 * Y @ inverse @ inverse @ gram @ inverse @ Y, times=100)
    h = EPS ** (1 / 3)
    up, down = (slopes(Matern(0.5 + s * h), X, Y, 0.1)[0] for s in (1, -1))
    np.testing.assert_allclose(in_kernel.length_scale, (up - down) / (2 * h), rtol=300 * h**2)


@pytest.mark.parametrize(
    "regress", [interpolate, lambda k, x, y: ridge(k, x, y, 0.1)], ids=["interpolate", "ridge"]
)
def test_data_are_checked(regress):
    for x, y, error, message in [
        (X, Y[:5], ValueError, "y: expected shape (6,) or (6, m), got (5,)"),
        (X, Y2.T, ValueError, "y: expected shape (6,) or (6, m), got (2, 6)"),
        (X, np.ones((), FLOAT), ValueError, "y: expected shape (6,) or (6, m), got ()"),
        (X, Y2[:, :0], ValueError, "y: expected shape (6,) or (6, m), got (6, 0)"),
        (X, np.full(6, np.nan, FLOAT), ValueError, "y: 6 of 6 entries are NaN or infinite"),
        (X, np.arange(6), TypeError, "y: expected float32 or float64, got int64"),
        (X[:0], Y[:0], ValueError, "x: expected shape (n, d) with n, d ≥ 1, got (0, 2)"),
        (X + np.inf, Y, ValueError, "x: 12 of 12 entries are NaN or infinite"),
        (X.astype(int), Y, TypeError, "x: expected float32 or float64, got int64"),
    ]:
        with refused(error, message):
            regress(RBF(), x, y)
    with jax.enable_x64(True), refused(TypeError, "expected one dtype, got x float64, y float32"):
        regress(RBF(), X.astype("float64"), Y.astype("float32"))
    for y in (Y, Y2[:, :1], np.ones((6, 3), FLOAT)):
        with refused(ValueError, f"y: expected shape (6, 2), got {y.shape}"):
            regress(TENSOR, X, y)
    with refused(TypeError, "kernel: expected a function k(x1, x2), got None"):
        regress(None, X, Y)


@pytest.mark.parametrize("penalty", [0, -1.0, np.nan, np.inf])
def test_penalties_are_positive(penalty):
    with refused(ValueError, f"penalty: expected a finite number > 0, got {penalty:g}"):
        ridge(RBF(), X, Y, penalty)


def test_penalties_are_numbers():
    with refused(TypeError, "penalty: expected a real number, got '1'"):
        ridge(RBF(), X, Y, "1")


CAUSES = (
    ". Likely causes: equal or near-equal points, a kernel of low rank, float32, "
    "or a function that is no kernel"
)


def test_an_indefinite_matrix_is_refused_with_its_smallest_eigenvalue():
    indefinite = constant([[1.0, 2.0], [2.0, 1.0]])
    told = (
        f"kernel: k(x, x) + penalty · I is not positive definite in {FLOAT}: smallest eigenvalue "
    )
    with refused(np.linalg.LinAlgError, told + "-1.0e+00 beside a mean of 1.0e+00" + CAUSES):
        interpolate(indefinite, X[:2], Y[:2])
    with refused(np.linalg.LinAlgError, told + "-5.0e-01 beside a mean of 1.5e+00" + CAUSES):
        ridge(indefinite, X[:2], Y[:2], 0.5)
    ridge(indefinite, X[:2], Y[:2], 1.5)


@pytest.mark.parametrize(
    ("kernel", "x"),
    [
        (Matern(0.5), np.concatenate([X, X[:1]])),
        (Linear(), np.concatenate([X, Z])),
        (Polynomial(1), np.concatenate([X, Z])),
        (Tensor(Matern(), np.ones((2, 2), FLOAT)), X),
    ],
    ids=["equal points", "rank 2", "rank 3", "singular matrix"],
)
def test_a_singular_matrix_is_refused(kernel, x):
    y = rng.normal(size=(len(x), 2)).astype(FLOAT)
    with pytest.raises(np.linalg.LinAlgError, match=r"^kernel: k\(x, x\)"):
        interpolate(kernel, x, y)


def test_an_interpolant_that_misses_the_data_is_refused():
    def lossy(x1, x2):
        # The identity when it is solved, off by u when it is evaluated: f misses by u.
        calls.append(1)
        return jnp.asarray([[1.0, u * (len(calls) % 2 == 0)], [0.0, 1.0]], FLOAT)

    calls: list[int] = []

    root = np.sqrt(EPS)
    for scale in (1.0, 8.0):
        y = scale * np.array([0.5, -1.0], FLOAT)
        u = 0.9 * root
        interpolate(lossy, X[:2], y)
        u = 1.1 * root
        told = (
            f"kernel: k(x, x) is too ill-conditioned in {FLOAT}: the solution misses the data by "
            f"{u * scale:.1e}; add a ridge, use float64 or remove near-equal points"
        )
        with refused(np.linalg.LinAlgError, told):
            interpolate(lossy, X[:2], y)


def test_zero_data_are_met():
    assert interpolate(Matern(0.5), X, 0 * Y).norm() == 0


# Mercer


def test_brownian_motion_has_its_known_spectrum():
    n, i = 40, np.arange(1, 6)
    t = (np.arange(n) + 0.5) / n
    pairs = mercer(brownian, t.astype(FLOAT)[:, None], 5)
    # On midpoints the sines are eigenvectors too, and the eigenvalues are known to the last digit.
    discrete = 1 / (2 * n * np.sin((i - 0.5) * np.pi / (2 * n))) ** 2
    assert_close(pairs.eigenvalues, discrete)
    continuous = 1 / ((i - 0.5) * np.pi) ** 2
    np.testing.assert_allclose(pairs.eigenvalues, continuous, rtol=1.1e-2)
    sines = np.sqrt(2) * np.sin((i - 0.5) * np.pi * t[:, None])
    sign = np.sign(pairs(t[:1].astype(FLOAT)[:, None]))  # the sines rise from 0
    assert_close(sign * np.asarray(pairs(t.astype(FLOAT)[:, None])), sines, times=100)
    # Between the nodes an extended eigenfunction is a line, since each min(·, x_j) is.
    between = np.array([0.0, 0.11, 0.5, 0.987])
    lines = [np.interp(between, [0, *t], [0, *sine]) for sine in sines.T]
    assert_close(
        sign * np.asarray(pairs(between.astype(FLOAT)[:, None])), np.transpose(lines), times=100
    )


def test_rbf_under_a_gaussian_has_a_geometric_spectrum():
    # x ~ N(0, 1): λ_i = √(2a/A) Bⁱ with a = 1/4, b = 1/(2ℓ²), c = √(a² + 2ab), A = a + b + c.
    points, weights = np.polynomial.hermite_e.hermegauss(40)
    keep = weights / weights.sum() > 1e-30
    x, w = points[keep, None].astype(FLOAT), (weights[keep] / weights.sum()).astype(FLOAT)
    length, rank = 1.5, 5
    a, b = 0.25, 1 / (2 * length**2)
    c = np.sqrt(a**2 + 2 * a * b)
    ratio = b / (a + b + c)
    pairs = mercer(RBF(length), x, rank, w)
    assert_close(
        pairs.eigenvalues, np.sqrt(2 * a / (a + b + c)) * ratio ** np.arange(rank), times=10
    )
    t = np.array([[-1.0], [0.25], [1.5]], FLOAT)
    first = (c / a) ** 0.25 * np.exp(-(c - a) * t[:, 0] ** 2)
    assert_close(np.abs(pairs(t)[:, 0]), first, times=10)


@pytest.mark.parametrize("weighted", [False, True])
def test_mercer_against_the_definition(weighted):
    w = np.array([1, 2, 0.5, 3, 1, 0.25], FLOAT) if weighted else np.full(6, 1 / 6, FLOAT)
    kernel = Matern(0.5)
    pairs = mercer(kernel, X, 6, w) if weighted else mercer(kernel, X, 6)
    assert isinstance(pairs, Mercer)
    gram = flat(kernel(X))
    known = np.sort(scipy.linalg.eigvals(gram * w).real)[::-1]  # of f ↦ Σ_j w_j k(·, x_j) f(x_j)
    assert pairs.eigenvalues.shape == (6,)
    assert_close(pairs.eigenvalues, known, times=10)
    phi = np.asarray(pairs(X), "float64")
    eigenvalues = np.asarray(pairs.eigenvalues, "float64")
    assert_close((phi.T * w @ phi).astype(FLOAT), np.eye(6), times=100)
    assert_close((gram @ (w[:, None] * phi)).astype(FLOAT), phi * eigenvalues, times=100)
    assert_close((phi * eigenvalues @ phi.T).astype(FLOAT), gram, times=100)
    off = np.asarray(kernel(Z, X), "float64") @ (w[:, None] * phi) / eigenvalues
    assert_close(pairs(Z), off, times=300)
    assert pairs(Z).shape == (4, 6)


def test_the_leading_pairs_do_not_depend_on_the_rank():
    few, many = mercer(Matern(0.5), X, 2), mercer(Matern(0.5), X, 5)
    assert few.eigenvalues.shape == (2,)
    assert few(Z).shape == (4, 2)
    np.testing.assert_array_equal(few.eigenvalues, many.eigenvalues[:2])
    np.testing.assert_array_equal(few(Z), many(Z)[:, :2])
    assert (np.diff(many.eigenvalues) < 0).all()


def test_mercer_passes_through_jit_and_grad():
    def leading(length):
        return mercer(Matern(length), X, 3, np.ones(6, FLOAT)).eigenvalues

    assert_close(jax.jit(leading)(0.5), leading(0.5), times=10)
    total = jax.jit(jax.grad(lambda s: mercer(s * Matern(0.5), X, 6).eigenvalues.sum()))(2.0)
    assert_close(total, 1.0, times=10)  # trace of s K / n
    assert_close(
        jax.jit(lambda p: p(Z))(mercer(Matern(0.5), X, 3)), mercer(Matern(0.5), X, 3)(Z), times=100
    )


def test_arguments_of_mercer_are_checked():
    w = np.full(6, 1 / 6, FLOAT)
    for arguments, error, message in [
        ((RBF(), X, 7), ValueError, "rank: expected at most the number of nodes, 6, got 7"),
        ((RBF(), X, 0), ValueError, "rank: expected an integer ≥ 1, got 0"),
        ((RBF(), X, 2.0), TypeError, "rank: expected an integer, got 2.0"),
        ((Linear(), X, 3), ValueError, "rank: only 2 eigenvalues stand clear of rounding, got 3"),
        ((RBF(), X, 2, w[:5]), ValueError, "weights: expected shape (6,), got (5,)"),
        ((RBF(), X, 2, w[:, None]), ValueError, "weights: expected shape (6,), got (6, 1)"),
        ((RBF(), X, 2, 0 * w), ValueError, "weights: expected positive numbers, smallest 0"),
        ((RBF(), X, 2, -2 + 6 * w), ValueError, "weights: expected positive numbers, smallest -1"),
        ((RBF(), X, 2, w * np.nan), ValueError, "weights: 6 of 6 entries are NaN or infinite"),
        ((RBF(), X, 2, [1] * 6), TypeError, "weights: expected float32 or float64, got int64"),
        ((RBF(), X + np.nan, 2), ValueError, "x: 12 of 12 entries are NaN or infinite"),
        ((RBF(), X[:0], 1), ValueError, "x: expected shape (n, d) with n, d ≥ 1, got (0, 2)"),
        ((TENSOR, X, 2), ValueError, "kernel(x): expected shape (6, 6), got (6, 6, 2, 2)"),
        ((None, X, 2), TypeError, "kernel: expected a function k(x1, x2), got None"),
    ]:
        with refused(error, message):
            mercer(*arguments)
    with jax.enable_x64(True):
        message = "expected one dtype, got x float64, weights float32"
        with refused(TypeError, message):
            mercer(RBF(), X.astype("float64"), 2, w.astype("float32"))


def test_one_weight_that_is_not_positive_is_enough():
    w = np.array([1, 1, 1, -0.5, 1, 1], FLOAT)
    with refused(ValueError, "weights: expected positive numbers, smallest -0.5"):
        mercer(RBF(), X, 2, w)


def test_rank_ends_where_rounding_begins():
    ones = np.ones(4, FLOAT)
    for top in (1.0, 16.0):
        kept = constant(top * np.diag([1, 0.5, 4.2 * EPS, 0]))
        lost = constant(top * np.diag([1, 0.5, 3.8 * EPS, 0]))
        assert_close(mercer(kept, Z, 3, ones).eigenvalues[:2], [top, top / 2])
        with refused(ValueError, "rank: only 2 eigenvalues stand clear of rounding, got 3"):
            mercer(lost, Z, 3, ones)
        mercer(lost, Z, 2, ones)
        mercer(constant(top * np.eye(4)), Z, 4, ones)
    with refused(ValueError, "rank: only 0 eigenvalues stand clear of rounding, got 1"):
        mercer(constant(np.zeros((4, 4))), Z, 1, ones)


def test_a_function_that_is_not_symmetric_is_refused() -> None:
    def skewed(a, b):
        return RBF()(a, b) * (1 + a[:, :1] ** 2)

    x = jnp.linspace(0, 1, 4, dtype=FLOAT)[:, None]
    for use in (lambda: ridge(skewed, x, x[:, 0], 1.0), lambda: mercer(skewed, x, 2)):
        with pytest.raises(ValueError, match=r"^kernel\(x\): expected a symmetric matrix"):
            use()


def test_mercer_refuses_a_function_that_is_no_kernel() -> None:
    x = jnp.linspace(0, 1, 4, dtype=FLOAT)[:, None]
    with pytest.raises(np.linalg.LinAlgError, match="^kernel: k.x, x. has the eigenvalue -"):
        mercer(lambda a, b: 1 + a + b.T, x, 1)
