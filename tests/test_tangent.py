"""Tangent kernels against finite differences, formulas and other libraries' networks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_close, refused

from ntklib.tangent import _plan, _tile, linearize, tangent_kernel, taylor

FLOAT = jnp.result_type(float)
rng = np.random.default_rng(5)
X = rng.normal(size=(5, 3)).astype(FLOAT)
Z = rng.normal(size=(4, 3)).astype(FLOAT)
PARAMS = {
    "first": (rng.normal(size=(3, 6)).astype(FLOAT), rng.normal(size=6).astype(FLOAT)),
    "second": rng.normal(size=(6, 2)).astype(FLOAT),
}


def network(params, x):
    weight, bias = params["first"]
    return jnp.tanh(x @ weight + bias[None]) @ params["second"]


def first_output(params, x):
    return network(params, x)[:, 0]


def by_hand(x1, x2):
    """Θ of `network`: h hᵀ and ((φ' v_a) (φ' v_b)ᵀ)(x xᵀ + 1), all in NumPy."""
    (weight, bias), second = PARAMS["first"], PARAMS["second"]
    h1, h2 = np.tanh(x1 @ weight + bias), np.tanh(x2 @ weight + bias)
    back1 = (1 - h1**2)[:, None] * second.T
    back2 = (1 - h2**2)[:, None] * second.T
    first = np.einsum("iah,jbh->ijab", back1, back2) * (x1 @ x2.T + 1)[:, :, None, None]
    return first + (h1 @ h2.T)[:, :, None, None] * np.eye(2)


def test_the_full_kernel_of_a_network_is_the_formula():
    kernel = tangent_kernel(network, PARAMS)
    assert_close(kernel(X, Z), by_hand(X, Z), times=10)
    assert_close(kernel(X), by_hand(X, X), times=10)


def test_trace_and_diagonal_are_taken_of_the_full_kernel():
    full = by_hand(X, Z)
    trace = tangent_kernel(network, PARAMS, outputs="trace")(X, Z)
    assert_close(trace, np.trace(full, axis1=2, axis2=3) / 2, times=10)
    diagonal = tangent_kernel(network, PARAMS, outputs="diagonal")(X, Z)
    assert_close(diagonal, np.diagonal(full, axis1=2, axis2=3), times=10)


@pytest.mark.parametrize("outputs", ["full", "trace", "diagonal"])
def test_one_output_without_axis_has_a_scalar_kernel(outputs):
    kernel = tangent_kernel(first_output, PARAMS, outputs=outputs)
    assert_close(kernel(X, Z), by_hand(X, Z)[:, :, 0, 0], times=10)


def test_a_matrix_of_itself_is_symmetric_to_the_last_bit():
    x = rng.normal(size=(150, 3)).astype(FLOAT)
    gram = np.asarray(tangent_kernel(network, PARAMS)(x))
    assert_close(gram, by_hand(x, x), times=10)
    np.testing.assert_array_equal(gram, gram.transpose(1, 0, 3, 2))
    diagonal = np.asarray(tangent_kernel(network, PARAMS, outputs="diagonal")(x))
    np.testing.assert_array_equal(diagonal, diagonal.swapaxes(0, 1))


@pytest.mark.parametrize("outputs", ["full", "trace", "diagonal"])
@pytest.mark.parametrize("memory", [1, 10_000])
def test_blocks_within_a_budget_are_the_same_matrix(outputs, memory):
    whole = tangent_kernel(network, PARAMS, outputs=outputs)
    parts = tangent_kernel(network, PARAMS, outputs=outputs, memory=memory)
    x = rng.normal(size=(11, 3)).astype(FLOAT)
    assert_close(parts(x), whole(x))
    assert_close(parts(x, Z), whole(x, Z))


@pytest.mark.parametrize("memory", [1, 2**30])
def test_the_product_with_a_vector_is_that_with_the_matrix(memory):
    full, v = by_hand(X, Z), rng.normal(size=(4, 2)).astype(FLOAT)
    kernel = tangent_kernel(network, PARAMS, memory=memory)
    assert_close(kernel.matvec(v, X, Z), np.einsum("ijab,jb->ia", full, v), times=20)
    kernel = tangent_kernel(network, PARAMS, outputs="diagonal", memory=memory)
    assert_close(kernel.matvec(v, X, Z), np.einsum("ijaa,ja->ia", full, v), times=20)
    kernel = tangent_kernel(network, PARAMS, outputs="trace", memory=memory)
    assert_close(kernel.matvec(v[:, 0], X, Z), np.einsum("ijaa,j->i", full, v[:, 0]) / 2, times=20)
    kernel = tangent_kernel(first_output, PARAMS, memory=memory)
    wanted = by_hand(X, X)[:, :, 0, 0] @ X[:, 0]
    assert_close(kernel.matvec(X[:, 0], X), wanted, times=20)


def test_kernels_work_inside_jit_and_with_other_kernels():
    kernel = tangent_kernel(first_output, PARAMS)
    gram = jax.jit(lambda k, x: (2.0 * k + k)(x))(kernel, X)
    assert_close(gram, 3 * by_hand(X, X)[:, :, 0, 0], times=10)


@pytest.mark.parametrize("memory", [1, 2**30])
def test_kernels_are_mapped_and_differentiated_by_the_parameters(memory):
    def gram(second):
        kernel = tangent_kernel(network, PARAMS | {"second": second}, memory=memory)
        return kernel(X[:2])

    second = jnp.asarray(PARAMS["second"])
    both = jax.vmap(gram)(jnp.stack([second, 2 * second]))
    assert_close(both[1], gram(2 * second), times=10)
    # Θ is quadratic in the last layer's weights, so a central difference is exact.
    slope = jax.grad(lambda s: gram(s * second).sum())(jnp.ones((), FLOAT))
    assert_close(slope, (gram(2 * second).sum() - gram(0 * second).sum()) / 2, times=100)


def wide(params, x):
    for w in params[:-1]:
        x = jax.nn.relu(x @ w / len(w) ** 0.5)
    return x @ params[-1]


def test_the_working_memory_of_a_wide_network_is_far_from_that_of_its_jacobian():
    shapes = [(8, 256), (256, 256), (256, 256), (256, 4)]
    params = [jnp.ones(s, FLOAT) for s in shapes]
    kernel, x = tangent_kernel(wide, params), jnp.ones((32, 8), FLOAT)
    used = _tile.lower("full", kernel, x, None).compile().memory_analysis().temp_size_in_bytes
    jacobian = 32 * 4 * sum(w.size for w in params) * x.dtype.itemsize
    assert used < jacobian / 20
    assert used < 2 * 32 * _plan(kernel, x).row + 3 * (32 * 4) ** 2 * x.dtype.itemsize


def deep(params, x):
    return jax.lax.scan(lambda h, w: (jnp.tanh(h @ w), None), x, params)[0][:, :3]


def test_the_working_memory_of_a_fallback_is_within_its_estimate():
    kernel, x = tangent_kernel(deep, jnp.ones((6, 32, 32), FLOAT)), jnp.ones((16, 32), FLOAT)
    used = _tile.lower("full", kernel, x, x + 1).compile().memory_analysis().temp_size_in_bytes
    jacobian = 16 * 3 * 6 * 32 * 32 * x.dtype.itemsize
    assert jacobian < used < 2 * 16 * _plan(kernel, x).row + 3 * (16 * 3) ** 2 * x.dtype.itemsize


def test_the_linearisation_is_exact_for_a_network_linear_in_its_parameters():
    def linear(w, x):
        return jnp.sin(x) @ w

    w0, w1 = X[:3], Z[:3]
    assert_close(linearize(linear, w0)(w1, X), np.sin(X) @ w1)


def test_taylor_of_an_exponential_is_its_series():
    def grow(scale, x):
        return jnp.exp(scale * x[:, 0])

    base, step = jnp.asarray(0.5, FLOAT), jnp.asarray(0.8, FLOAT)
    x = X[:, 0]
    for order, tail in [
        (0, 0 * x),
        (1, x * 0.3),
        (3, x * 0.3 + (x * 0.3) ** 2 / 2 + (x * 0.3) ** 3 / 6),
    ]:
        assert_close(taylor(grow, base, order)(step, X), np.exp(0.5 * x) * (1 + tail), times=2)


def test_refusals_name_the_argument():
    with refused(TypeError, "apply: expected a function apply(params, x), got 3"):
        tangent_kernel(3, PARAMS)
    with refused(ValueError, "outputs: expected one of full, trace, diagonal, got 'mean'"):
        tangent_kernel(network, PARAMS, outputs="mean")
    with refused(ValueError, "params: expected at least one array"):
        tangent_kernel(network, ())
    with refused(TypeError, "params['n']: expected float32 or float64, got int64"):
        tangent_kernel(network, {"n": np.ones(2, np.int64)})
    message = "apply(params, x): expected shape (n, m) or (n,) for n points, got (2, 3, 1) for 2"
    with refused(ValueError, message):
        tangent_kernel(lambda w, x: w * x[:, :, None], jnp.ones((1, 1, 1), FLOAT))(X)
    with refused(ValueError, "order: expected an integer ≥ 0, got -1"):
        taylor(network, PARAMS, -1)
