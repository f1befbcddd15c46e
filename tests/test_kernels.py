"""Kernels on batches, their algebra, and the pytrees they are."""

import copy
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_close, refused
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import pairwise
from sklearn.svm import SVC

from ntklib import kernels
from ntklib.kernels import (
    FromFunction,
    Kernel,
    Linear,
    Polynomial,
    Product,
    Scaled,
    Sum,
    as_kernel,
)
from ntklib.matrix_kernels import Tensor
from ntklib.stationary import RBF, Laplace, Matern

FLOAT = jnp.result_type(float)
EPS = float(np.finfo(FLOAT).eps)
rng = np.random.default_rng(20)
X = rng.normal(size=(5, 3)).astype(FLOAT)
Z = rng.normal(size=(4, 3)).astype(FLOAT)


def cosines(x1, x2=None):
    """A plain function, no Kernel: Σ_d cos(x_d − y_d), positive semidefinite by Bochner."""
    x2 = x1 if x2 is None else x2
    return np.cos(np.asarray(x1)[:, None] - np.asarray(x2)[None]).sum(-1)


# Values, against other software


def test_linear_is_the_matrix_of_inner_products():
    expected = [[sum(a * b for a, b in zip(x, z, strict=True)) for z in Z] for x in X]
    assert_close(Linear()(X, Z), expected)
    assert_close(Linear()(X), pairwise.linear_kernel(X))


@pytest.mark.parametrize(("degree", "offset"), [(1, 0.0), (2, 1.0), (3, 0.5), (5, 0)])
def test_polynomial_agrees_with_scikit_learn(degree, offset):
    expected = pairwise.polynomial_kernel(X, Z, degree=degree, gamma=1, coef0=offset)
    assert_close(Polynomial(degree, offset)(X, Z), expected, times=10)


def test_polynomial_has_offset_one_unless_told():
    assert Polynomial(2) == Polynomial(2, 1.0)
    assert Polynomial(2) == Polynomial(degree=2, offset=1)


def test_without_x2_the_second_points_are_the_first():
    for k in (Linear(), Polynomial(2), Linear() + Polynomial(2), 2 * Linear(), as_kernel(cosines)):
        np.testing.assert_array_equal(k(X), k(X, X))
        assert k(X).shape == (5, 5)
        assert k(X, Z).shape == (5, 4)


def test_kernels_are_jax_arrays_and_take_numpy_or_jax():
    assert isinstance(Linear()(X), jax.Array)
    np.testing.assert_array_equal(Linear()(jnp.asarray(X), Z), Linear()(X, jnp.asarray(Z)))


@pytest.mark.parametrize("dtype", sorted({"float32", FLOAT.name}))
@pytest.mark.parametrize(
    "kernel",
    [
        Linear(),
        Polynomial(3, 0.1),
        RBF(0.3),
        Linear() + RBF(0.3),
        Linear() * Polynomial(2, np.float64(0.1)),
        0.1 * RBF(np.float32(0.3)),
        np.float64(0.1) * Linear(),
        FromFunction(lambda x1, x2: x1 @ x2.T),
    ],
    ids=lambda k: type(k).__name__,
)
def test_dtype_is_kept(dtype, kernel):
    assert kernel(X.astype(dtype), Z.astype(dtype)).dtype == dtype
    assert jax.eval_shape(lambda k, x: k(x), kernel, X.astype(dtype)).dtype == dtype


# The algebra


@pytest.mark.parametrize("other", [RBF(), cosines], ids=["kernel", "function"])
def test_sums_and_products_are_those_of_the_gram_matrices(other):
    k = Polynomial(2)
    left, right = k(X, Z), other(X, Z)
    for total in (k + other, other + k):
        assert isinstance(total, Sum)
        np.testing.assert_array_equal(total(X, Z), left + right)
    for product in (k * other, other * k):
        assert isinstance(product, Product)
        np.testing.assert_array_equal(product(X, Z), left * right)


@pytest.mark.parametrize("scale", [3, 0.5, 0, np.float64(2), np.float32(2), np.int64(2)], ids=repr)
def test_scaling_from_both_sides(scale):
    k = Polynomial(2)
    for scaled in (scale * k, k * scale, Scaled(k, scale)):
        assert isinstance(scaled, Scaled)
        assert type(scaled.scale) is float
        assert_close(scaled(X, Z), float(scale) * np.asarray(k(X, Z)))
    assert isinstance(jnp.asarray(2.0) * k, Scaled)


def test_scaling_a_plain_function():
    assert_close(Scaled(cosines, 3)(X, Z), 3 * cosines(X, Z))


@pytest.mark.parametrize("m", [1, 2])
def test_sums_and_products_of_matrix_valued_kernels(m):
    b = np.eye(m, dtype=FLOAT) + 1
    k1, k2 = Tensor(RBF(), b), Tensor(Polynomial(2), 2 * b)
    assert (k1 + k2)(X, Z).shape == (5, 4, m, m)
    np.testing.assert_array_equal((k1 + k2)(X, Z), k1(X, Z) + k2(X, Z))
    np.testing.assert_array_equal((k1 * k2)(X, Z), k1(X, Z) * k2(X, Z))


def test_a_sum_of_unlike_shapes_is_refused():
    k = RBF() + Tensor(RBF(), np.eye(2, dtype=FLOAT))
    with refused(ValueError, "right(x1, x2): expected shape (5, 5), got (5, 5, 2, 2)"):
        k(X)
    with refused(ValueError, "right(x1, x2): expected shape (5, 4, 2, 2), got (5, 4)"):
        (k.right * k.left)(X, Z)


def test_a_sum_of_unlike_dtypes_is_refused():
    class Single(Kernel):
        def _gram(self, x1, x2):
            return (x1 @ x2.T).astype("float32")

    with jax.enable_x64(True):
        x = X.astype("float64")
        with refused(TypeError, "expected one dtype, got left float64, right float32"):
            (Linear() + Single())(x)
        with refused(TypeError, "expected one dtype, got left float32, right float64"):
            (Single() * Linear())(x)


@pytest.mark.parametrize("other", [3, "RBF", None, np.ones(2)], ids=repr)
def test_only_functions_are_added(other):
    with pytest.raises(TypeError, match="unsupported operand"):
        Linear() + other


@pytest.mark.parametrize("other", ["2", None, np.ones(2), 1j, True], ids=repr)
def test_only_functions_and_numbers_multiply(other):
    with pytest.raises(TypeError, match=r"^scale: expected a real number, got "):
        Linear() * other


@pytest.mark.parametrize("scale", [-1, -1e-9, np.nan, np.inf])
def test_a_kernel_is_scaled_by_finite_numbers_from_zero_on(scale):
    with refused(ValueError, f"scale: expected a finite number ≥ 0, got {scale:g}"):
        scale * Linear()


@pytest.mark.parametrize("degree", [0, -1])
def test_degrees_begin_at_one(degree):
    with refused(ValueError, f"degree: expected an integer ≥ 1, got {degree}"):
        Polynomial(degree)


@pytest.mark.parametrize("degree", [1.5, 2.0, "2", None, True], ids=repr)
def test_degrees_are_integers(degree):
    with refused(TypeError, f"degree: expected an integer, got {degree!r}"):
        Polynomial(degree)


def test_offsets_are_numbers_from_zero_on():
    with refused(ValueError, "offset: expected a finite number ≥ 0, got -0.5"):
        Polynomial(2, -0.5)
    with refused(ValueError, "offset: expected a finite number ≥ 0, got nan"):
        Polynomial(2, np.nan)
    with refused(TypeError, "offset: expected a real number, got '1'"):
        Polynomial(2, "1")


# Plain functions


def test_a_function_becomes_a_kernel_and_a_kernel_stays_itself():
    k = RBF()
    assert as_kernel(k) is k
    assert isinstance(as_kernel(cosines), FromFunction)
    assert_close(as_kernel(cosines)(X, Z), cosines(X, Z))
    assert as_kernel(cosines) == as_kernel(cosines)
    assert as_kernel(cosines) != as_kernel(pairwise.cosine_similarity)


@pytest.mark.parametrize("k", [3, "rbf", None], ids=repr)
def test_what_is_no_function_is_no_kernel(k):
    with refused(TypeError, f"kernel: expected a function k(x1, x2), got {k!r}"):
        as_kernel(k)
    with refused(TypeError, f"kernel: expected a function k(x1, x2), got {k!r}"):
        Scaled(k, 1)


@pytest.mark.parametrize("shape", [(5, 4), (5, 4, 1, 1), (5, 4, 2, 2)])
def test_shapes_of_plain_functions(shape):
    assert FromFunction(lambda x1, x2: np.ones(shape, FLOAT))(X, Z).shape == shape


@pytest.mark.parametrize(
    "shape",
    [(), (5,), (4, 5), (5, 5), (4, 4), (1, 4), (5, 4, 2), (5, 4, 2, 3), (5, 4, 2, 2, 2)],
)
def test_other_shapes_of_plain_functions_are_refused(shape):
    message = f"kernel(x1, x2): expected shape (5, 4) or (5, 4, m, m), got {shape}"
    with refused(ValueError, message):
        FromFunction(lambda x1, x2: np.ones(shape, FLOAT))(X, Z)


def test_values_of_plain_functions_are_checked():
    with refused(ValueError, "kernel(x1, x2): 20 of 20 entries are NaN or infinite"):
        FromFunction(lambda x1, x2: np.full((5, 4), np.nan, FLOAT))(X, Z)
    with refused(TypeError, "kernel(x1, x2): expected float32 or float64, got int64"):
        FromFunction(lambda x1, x2: np.ones((5, 4), int))(X, Z)
    with (
        jax.enable_x64(True),
        refused(TypeError, "expected one dtype, got x1 float32, gram float64"),
    ):
        FromFunction(lambda x1, x2: np.ones((5, 4)))(X.astype("float32"), Z.astype("float32"))


# Bad points: `_check` is tested apart; here only that both arguments go through it.


def test_points_are_checked():
    k = Linear()
    column = "; one-dimensional points are a column, x[:, None]"
    bad = np.where(np.eye(5, 3) > 0, np.nan, X).astype(FLOAT)
    for x1, x2, error, message in [
        (X[0], None, ValueError, "x1: expected shape (n, d), got (3,)" + column),
        (X, Z[0], ValueError, "x2: expected shape (n, 3), got (3,)" + column),
        (X, Z[:, :2], ValueError, "x2: expected shape (n, 3), got (4, 2)"),
        (X[:0], None, ValueError, "x1: expected shape (n, d) with n, d ≥ 1, got (0, 3)"),
        (X, Z[:0], ValueError, "x2: expected shape (n, 3) with n, d ≥ 1, got (0, 3)"),
        (bad, None, ValueError, "x1: 3 of 15 entries are NaN or infinite"),
        (X, bad / 0.5, ValueError, "x2: 3 of 15 entries are NaN or infinite"),
        (X.astype(int), None, TypeError, "x1: expected float32 or float64, got int64"),
        (X, Z.astype(int), TypeError, "x2: expected float32 or float64, got int64"),
    ]:
        with refused(error, message):
            k(x1, x2)


def test_two_dtypes_are_refused():
    with jax.enable_x64(True), refused(TypeError, "expected one dtype, got x1 float64, x2 float32"):
        Linear()(X.astype("float64"), Z.astype("float32"))


# Kernels as values: equality, copies, pytrees


def test_equality_is_that_of_form_and_parameters():
    assert Linear() == Linear()
    assert RBF(1) == RBF(1.0)
    assert RBF(1.0) != RBF(2.0)
    assert Polynomial(2, 1.0) != Polynomial(3, 1.0)
    assert Polynomial(2, 1.0) != Polynomial(2, 2.0)
    assert RBF(1.0) != Laplace(1.0)
    assert Matern(nu=0.5) != Matern(nu=1.5)
    assert RBF() + Linear() == RBF() + Linear()
    assert RBF() + Linear() != Linear() + RBF()
    assert RBF() + Linear() != RBF() * Linear()
    assert 2 * RBF() == 2.0 * RBF()
    assert 2 * RBF() != 3 * RBF()
    assert Linear() != 3
    assert RBF(2.0) != 2.0
    assert Tensor(RBF(), np.eye(2, dtype=FLOAT)) == Tensor(RBF(), np.eye(2, dtype=FLOAT))
    assert Tensor(RBF(), np.eye(2, dtype=FLOAT)) != Tensor(RBF(), np.eye(3, dtype=FLOAT))


def test_traced_parameters_count_as_equal():
    def same(a, b):
        return jnp.asarray([RBF(a) == RBF(b), RBF(a) == RBF(1.0), RBF(1.0) == RBF(a)])

    assert jax.jit(same)(1.0, 2.0).all()
    assert not jax.jit(lambda a: jnp.asarray(RBF(a) == Laplace(a)))(1.0)


def test_functions_are_equal_by_identity_not_by_their_text():
    class Function:
        def __call__(self, x1, x2):
            return jnp.ones((len(x1), len(x2)))

        def __repr__(self):
            return "one text"

    f, g = Function(), Function()
    assert FromFunction(f) == FromFunction(f)
    assert FromFunction(f) != FromFunction(g)


def test_kernels_are_frozen():
    with pytest.raises(AttributeError, match="cannot assign"):
        RBF().length_scale = 2.0


def test_equal_kernels_have_equal_hashes():
    tensor = Tensor(RBF(), np.eye(2, dtype=FLOAT))
    assert len({RBF(1), RBF(1.0), RBF(2.0), Linear(), Linear(), tensor, copy.copy(tensor)}) == 4


def test_scikit_learn_takes_a_kernel_as_it_is():
    x, labels = rng.normal(size=(30, 2)), rng.integers(0, 2, 30)
    with jax.enable_x64(True):
        ours = SVC(kernel=RBF(0.75)).fit(x, labels)
        theirs = SVC(kernel="rbf", gamma=1 / (2 * 0.75**2)).fit(x, labels)
        np.testing.assert_allclose(
            ours.decision_function(x), theirs.decision_function(x), rtol=1e-9, atol=1e-9
        )


def test_copies_and_pickles_are_equal():
    k = 2 * RBF(0.5) + Linear() * Polynomial(2)
    assert copy.deepcopy(k) == k
    assert pickle.loads(pickle.dumps(k)) == k


def test_abstract_kernels_cannot_be_made():
    for base in (Kernel, kernels.Pointwise):
        with pytest.raises(TypeError, match="abstract"):
            base()


def test_a_kernel_is_a_pytree_of_its_parameters():
    k = 2 * RBF(0.5) + Polynomial(3, 0.25)
    leaves, form = jax.tree.flatten(k)
    assert leaves == [0.5, 2.0, 0.25]
    assert jax.tree.unflatten(form, leaves) == k
    assert jax.tree.unflatten(form, ["a", None, -1]).left.scale is None
    assert jax.tree.map(lambda p: 2 * p, k) == 4 * RBF(1.0) + Polynomial(3, 0.5)
    names = [jax.tree_util.keystr(p) for p, _ in jax.tree_util.tree_flatten_with_path(k)[0]]
    assert len(set(names)) == 3


def test_kernels_pass_through_jit_vmap_and_grad():
    k = 2 * (RBF(0.5) + Polynomial(2, 0.25))
    assert_close(jax.jit(lambda k: k(X))(k), k(X))
    offsets = jnp.asarray([0.0, 0.5, 2.0])
    stacked = jax.vmap(lambda c: Polynomial(2, c)(X))(offsets)
    assert_close(stacked, [Polynomial(2, float(c))(X) for c in offsets])
    slope = jax.grad(lambda k: k(X, Z).sum())(3.0 * Polynomial(2, 0.25))
    inner = X @ Z.T + 0.25
    assert_close(slope.scale, (inner**2).sum(), times=10)
    assert_close(slope.kernel.offset, 6 * inner.sum(), times=10)
    assert slope.kernel.degree == 2


def test_gradient_with_respect_to_points():
    z = jnp.asarray(Z)
    slope = jax.jit(jax.grad(lambda x: (Linear() * Polynomial(2, 0.5))(x, z).sum()))(X)
    s = X @ Z.T  # d/ds s (s + 1/2)² = (s + 1/2)² + 2s (s + 1/2)
    assert_close(slope, ((s + 0.5) ** 2 + 2 * s * (s + 0.5)) @ Z, times=10)


# Properties of every kernel and of all that is made from them

positive = st.floats(0.125, 4.0, width=32)
simple = st.one_of(
    st.just(Linear()),
    st.builds(Polynomial, st.integers(1, 3), st.floats(0.0, 2.0, width=32)),
    st.builds(RBF, positive),
    st.builds(Laplace, positive),
    st.builds(Matern, positive, nu=st.sampled_from([0.5, 1.5, 2.5])),
    st.just(FromFunction(cosines)),
)
composite = st.recursive(
    simple,
    lambda k: st.one_of(
        st.builds(Sum, k, k), st.builds(Product, k, k), st.builds(Scaled, k, positive)
    ),
    max_leaves=4,
)
coordinates = st.floats(-2.0, 2.0, width=16)
batch = arrays(FLOAT, (5, 3), elements=coordinates)


@settings(max_examples=60)
@given(composite, batch)
def test_every_kernel_is_symmetric_and_positive_semidefinite(kernel, x):
    gram = np.asarray(kernel(x), "float64")
    rounding = 100 * EPS * np.abs(gram).max()
    assert np.abs(gram - gram.T).max() <= rounding
    assert np.linalg.eigvalsh((gram + gram.T) / 2)[0] >= -rounding


@settings(max_examples=40)
@given(composite, batch, batch, st.permutations(range(5)), st.permutations(range(5)))
def test_values_depend_on_the_pair_of_points_alone(kernel, x1, x2, rows, columns):
    gram = np.asarray(kernel(x1, x2))
    scale = max(1.0, np.abs(gram).max())
    assert_close(np.asarray(kernel(x2, x1)).T / scale, gram / scale, times=10)
    moved = np.asarray(kernel(x1[list(rows)], x2[list(columns)]))
    assert_close(moved / scale, gram[np.ix_(rows, columns)] / scale, times=10)


@settings(max_examples=30)
@given(composite, composite, composite, batch)
def test_the_laws_of_arithmetic(a, b, c, x):
    def same(left, right):
        scale = max(1.0, np.abs(np.asarray(right(x))).max())
        assert_close(np.asarray(left(x)) / scale, np.asarray(right(x)) / scale, times=10)

    same(a + b, b + a)
    same(a * b, b * a)
    same((a + b) + c, a + (b + c))
    same(a * (b + c), a * b + a * c)
    same(2 * (a + b), 2 * a + b * 2)
    same(0 * a + b, b)
