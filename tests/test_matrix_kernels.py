"""Matrix-valued kernels as nm × nm matrices, in closed form and by finite differences."""

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from helpers import assert_close, refused
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ntklib.kernels import FromFunction, Linear, Polynomial
from ntklib.matrix_kernels import Gradient, Tensor
from ntklib.stationary import RBF, Laplace, Matern

FLOAT = jnp.result_type(float)
EPS = float(np.finfo(FLOAT).eps)
LENGTH = 0.75
rng = np.random.default_rng(3)
X = rng.normal(size=(4, 2)).astype(FLOAT)
Z = rng.normal(size=(4, 2)).astype(FLOAT)
B = np.array([[2.0, 0.5], [0.5, 1.0]], FLOAT)


def flat(gram):
    """The nm × nm matrix, row (i, a) and column (j, b)."""
    n1, n2, m, _ = gram.shape
    return np.asarray(gram).swapaxes(1, 2).reshape(n1 * m, n2 * m)


def mixed(k, x, y):
    """∂²k/∂xₐ∂y_b by central differences of a function of 90-digit numbers."""
    d, h = len(x), mpmath.mpf("1e-20")
    x, y = [mpmath.mpf(float(t)) for t in x], [mpmath.mpf(float(t)) for t in y]

    def at(a, s, b, t):
        return k(
            [u + s * h * (i == a) for i, u in enumerate(x)],
            [u + t * h * (i == b) for i, u in enumerate(y)],
        )

    return [
        [
            float(
                (at(a, 1, b, 1) - at(a, 1, b, -1) - at(a, -1, b, 1) + at(a, -1, b, -1))
                / (4 * h * h)
            )
            for b in range(d)
        ]
        for a in range(d)
    ]


def of_distance(h):
    return lambda x, y: h(
        mpmath.sqrt(mpmath.fsum((a - b) ** 2 for a, b in zip(x, y, strict=True))) / LENGTH
    )


def of_product(h):
    return lambda x, y: h(mpmath.fsum(a * b for a, b in zip(x, y, strict=True)))


SMOOTH = {
    "rbf": (RBF(LENGTH), of_distance(lambda r: mpmath.exp(-(r**2) / 2))),
    "matern 3/2": (
        Matern(LENGTH, 1.5),
        of_distance(lambda r: (1 + mpmath.sqrt(3) * r) * mpmath.exp(-mpmath.sqrt(3) * r)),
    ),
    "matern 5/2": (
        Matern(LENGTH, 2.5),
        of_distance(
            lambda r: (1 + mpmath.sqrt(5) * r + 5 * r**2 / 3) * mpmath.exp(-mpmath.sqrt(5) * r)
        ),
    ),
    "polynomial": (Polynomial(3, 0.5), of_product(lambda s: (s + mpmath.mpf("0.5")) ** 3)),
    "linear": (Linear(), of_product(lambda s: s)),
}
every_smooth_kernel = pytest.mark.parametrize(("kernel", "k"), SMOOTH.values(), ids=SMOOTH)

# Tensor


def test_tensor_is_the_kronecker_product():
    gram = Tensor(RBF(LENGTH), B)(X[:3], Z)
    assert gram.shape == (3, 4, 2, 2)
    assert_close(flat(gram), np.kron(RBF(LENGTH)(X[:3], Z), B))
    np.testing.assert_array_equal(Tensor(RBF(LENGTH), B)(X), Tensor(RBF(LENGTH), B)(X, X))


def test_tensor_with_the_identity_decouples_the_outputs():
    gram = np.asarray(Tensor(RBF(), np.eye(3, dtype=FLOAT))(X, Z))
    for a in range(3):
        for b in range(3):
            np.testing.assert_array_equal(gram[..., a, b], (a == b) * np.asarray(RBF()(X, Z)))


def test_tensor_takes_any_kernel_and_any_array():
    k = Tensor(lambda x1, x2: x1 @ x2.T, B.tolist() if FLOAT == "float64" else B)
    assert isinstance(k.kernel, FromFunction)
    assert isinstance(k.matrix, jax.Array)
    assert_close(flat(k(X, Z)), np.kron(X @ Z.T, B))
    assert Tensor(RBF(), np.ones((1, 1), FLOAT))(X).shape == (4, 4, 1, 1)


@pytest.mark.parametrize("dtype", sorted({"float32", FLOAT.name}))
def test_dtype_is_kept(dtype):
    x, b = X.astype(dtype), B.astype(dtype)
    assert Tensor(RBF(0.3), b)(x).dtype == dtype
    assert jax.eval_shape(Gradient(RBF(0.3)), x).dtype == dtype


def test_points_and_matrix_have_one_dtype():
    with jax.enable_x64(True):
        message = "expected one dtype, got x1 float64, matrix float32"
        with refused(TypeError, message):
            Tensor(RBF(), B.astype("float32"))(X.astype("float64"))


@pytest.mark.parametrize(
    ("matrix", "error", "told"),
    [
        (np.ones((2, 3)), ValueError, "expected shape (m, m) with m ≥ 1, got (2, 3)"),
        (np.ones(()), ValueError, "expected shape (m, m) with m ≥ 1, got ()"),
        (np.ones((0, 0)), ValueError, "expected shape (m, m) with m ≥ 1, got (0, 0)"),
        (np.array([[1, 0.5], [0, 1]]), ValueError, "expected a symmetric matrix"),
        (
            np.diag([1, -0.25]),
            ValueError,
            "expected a positive-semidefinite matrix, smallest eigenvalue -0.25",
        ),
        (np.full((2, 2), np.nan), ValueError, "4 of 4 entries are NaN or infinite"),
    ],
)
def test_the_matrix_is_symmetric_and_positive_semidefinite(matrix, error, told):
    with refused(error, f"matrix: {told}"):
        Tensor(RBF(), matrix.astype(FLOAT))


def test_the_matrix_is_of_floats():
    with refused(TypeError, "matrix: expected float32 or float64, got int64"):
        Tensor(RBF(), np.eye(2, dtype=int))


@pytest.mark.parametrize("make", [lambda k: Tensor(k, B), Gradient])
def test_no_function_is_no_kernel(make):
    with refused(TypeError, "kernel: expected a function k(x1, x2), got 'rbf'"):
        make("rbf")


def test_only_scalar_kernels_are_made_matrix_valued():
    with refused(ValueError, "kernel(x1, x2): expected shape (4, 4), got (4, 4, 2, 2)"):
        Tensor(Tensor(RBF(), B), B)(X, Z)
    with refused(ValueError, "kernel(x, y): expected shape (1, 1), got (1, 1, 2, 2)"):
        Gradient(Tensor(RBF(), B))(X, Z)


# Gradient


@every_smooth_kernel
def test_gradient_against_finite_differences_in_ninety_digits(kernel, k):
    near = (X + np.geomspace(1e-9, 1e-3, 4)[:, None]).astype(FLOAT)
    for second in (Z, near):
        gram = Gradient(kernel)(X, second)
        assert gram.shape == (4, len(second), 2, 2)
        distinct = (X[:, None] != second[None]).any(-1)  # the formula has √0 at equal points
        with mpmath.workdps(90):
            expected = {
                ij: mixed(k, X[ij[0]], second[ij[1]])
                for ij in zip(*np.nonzero(distinct), strict=True)
            }
        got = np.asarray([gram[ij] for ij in expected])
        assert_close(got, list(expected.values()), times=50)


@pytest.mark.parametrize(("name", "c"), [("rbf", 1), ("matern 3/2", 3), ("matern 5/2", 5 / 3)])
def test_diagonal_of_the_gradient_kernel(name, c):
    gram = np.asarray(Gradient(SMOOTH[name][0])(X))
    assert_close(gram[range(4), range(4)], np.tile(c / LENGTH**2 * np.eye(2), (4, 1, 1)))


def test_gradient_of_rbf_in_closed_form():
    u = (X[:, None] - Z[None]) / LENGTH
    k = np.exp(-(u**2).sum(-1) / 2)
    expected = k[..., None, None] * (np.eye(2) - u[..., :, None] * u[..., None, :]) / LENGTH**2
    assert_close(Gradient(RBF(LENGTH))(X, Z), expected, times=10)


def test_gradient_of_linear_is_the_identity():
    assert_close(Gradient(Linear())(X, Z), np.broadcast_to(np.eye(2), (4, 4, 2, 2)))


def test_gradient_is_linear_in_the_kernel():
    k = 3 * (RBF(LENGTH) + Polynomial(2))
    expected = 3 * (Gradient(RBF(LENGTH))(X, Z) + Gradient(Polynomial(2))(X, Z))
    assert_close(Gradient(k)(X, Z), expected, times=10)


def test_gradient_of_a_plain_function_is_differentiated_by_jax():
    assert_close(Gradient(lambda x1, x2: (x1 @ x2.T + 1) ** 2)(X, Z), Gradient(Polynomial(2))(X, Z))


@every_smooth_kernel
def test_columns_of_the_gradient_kernel_have_no_curl(kernel, k):
    grad = Gradient(kernel)
    z = jnp.asarray(Z[:1])

    @jax.jit
    @jax.vmap
    def jacobian(x):
        return jax.jacfwd(lambda x: grad(x[None], z)[0, 0])(x)  # [a, b, c] = ∂_c K_ab

    slopes = np.asarray(jacobian(X))
    assert_close(slopes, slopes.transpose(0, 3, 2, 1), times=50)


def test_gradient_differentiates_in_length_scale_and_points():
    grad = jax.jit(jax.grad(lambda k, x: Gradient(k)(x).sum(), argnums=(0, 1)))
    for name in ("rbf", "matern 3/2", "matern 5/2"):
        in_kernel, in_points = grad(SMOOTH[name][0], X)
        assert np.isfinite(in_kernel.length_scale)
        assert np.isfinite(in_points).all()


CUSPED = [Laplace(), Matern(nu=0.5)]


@pytest.mark.parametrize("cusped", CUSPED, ids=["laplace", "matern 1/2"])
@pytest.mark.parametrize(
    "nest",
    [
        lambda k: k,
        lambda k: RBF() + k,
        lambda k: k * RBF(),
        lambda k: 2 * k,
        lambda k: Linear() + 2 * (Polynomial(2) * (k + RBF())),
        lambda k: Tensor(k, B),
    ],
)
def test_gradient_refuses_a_cusp_however_deep(cusped, nest):
    with refused(ValueError, f"kernel: {cusped} has a cusp at x = y, so ∂²k/∂x∂y does not exist"):
        Gradient(nest(cusped))


# Properties of both

matrix_kernel = st.one_of(
    st.builds(
        lambda k, a: Tensor(k, a @ a.T),
        st.sampled_from([RBF(0.5), Laplace(), Linear()]),
        arrays(FLOAT, (2, 2), elements=st.floats(-2, 2, width=16)),
    ),
    st.builds(Gradient, st.sampled_from([k for k, _ in SMOOTH.values()])),
    st.builds(Gradient, st.builds(RBF, st.floats(0.5, 2, width=16))),
)
batch = arrays(FLOAT, (4, 2), elements=st.floats(-2, 2, width=16))


@settings(max_examples=40)
@given(matrix_kernel, batch)
def test_matrix_valued_kernels_are_symmetric_and_positive_semidefinite(kernel, x):
    gram = flat(kernel(x)).astype("float64")
    rounding = 100 * EPS * np.abs(gram).max()
    assert np.abs(gram - gram.T).max() <= rounding
    assert np.linalg.eigvalsh((gram + gram.T) / 2)[0] >= -rounding


@settings(max_examples=30)
@given(matrix_kernel, batch, batch, st.permutations(range(4)))
def test_values_depend_on_the_pair_of_points_alone(kernel, x1, x2, rows):
    gram = np.asarray(kernel(x1, x2))
    scale = max(1.0, np.abs(gram).max())
    assert_close(np.asarray(kernel(x2, x1)).transpose(1, 0, 3, 2) / scale, gram / scale, times=10)
    assert_close(np.asarray(kernel(x1[list(rows)], x2)) / scale, gram[list(rows)] / scale, times=10)
