"""Layers and networks: their finite form, their limit, and what they refuse."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_close, once, refused
from hypothesis import given, settings
from hypothesis import strategies as st

from ntklib import deep_ntk
from ntklib.deep_ntk import (
    Abs,
    Dense,
    Elementwise,
    ElementwiseNumerical,
    Erf,
    FanInSum,
    FanOut,
    Gelu,
    Identity,
    Layer,
    LayerNorm,
    LeakyRelu,
    Relu,
    Sin,
    parallel,
    repeat,
    serial,
)
from ntklib.network_state import State, from_points
from ntklib.rkhs import RBF, ridge

FLOAT = jnp.result_type(float)
rng = np.random.default_rng(3)
X = rng.normal(size=(5, 4)).astype(FLOAT)
Z = rng.normal(size=(3, 4)).astype(FLOAT)
KEY = jax.random.key(0)


def test_all_names_exist():
    assert all(hasattr(deep_ntk, name) for name in deep_ntk.__all__)


# The finite network


def residual(width):
    branch = serial(Relu(), Dense(width, 1.1, 0.2))
    return serial(FanOut(2), parallel(branch, Identity()), FanInSum())


NETWORKS = {
    "erf": lambda n: serial(Dense(n, 1.5, 0.3), Erf(), Dense(n, 1.5, 0.3), Erf(), Dense(1, 1.5)),
    "relu": lambda n: serial(Dense(n, 1.4), Relu(), Dense(n, 1.4), Relu(), Dense(1, 1.4, 0.5)),
    "residual": lambda n: serial(Dense(n), residual(n), Abs(), Dense(1)),
    "repeat": lambda n: serial(Dense(n), repeat(serial(Sin(), Dense(n, 1.2, 0.1)), 2), Dense(1)),
    "norm": lambda n: serial(Dense(n, 1.3), LayerNorm(), Gelu(), Dense(1, 1.0, 0.1)),
    "standard": lambda n: serial(
        Dense(n, 1.2, 0.4, parameterization="standard", s=(1, 1)),
        Relu(),
        Dense(1, 1.2, 0.4, parameterization="standard"),
    ),
}


def finite_kernels(network, seeds):
    """E f(x)f(x') and the tangent kernels of finite networks, shape (seeds, n, n)."""

    def one(key):
        _, params = network.init(key, (4,), FLOAT)
        jacobian = jax.jacobian(lambda p: network.apply(p, X)[:, 0])(params)
        flat = jnp.concatenate([j.reshape(len(X), -1) for j in jax.tree.leaves(jacobian)], 1)
        return network.apply(params, X)[:, 0], flat @ flat.T

    return jax.lax.map(jax.jit(one), jax.random.split(KEY, seeds))


@once
@pytest.mark.parametrize("name", NETWORKS)
def test_the_limit_is_that_of_the_finite_network(name):
    # The tangent kernel's mean square error falls as 1/width, to a mean that is the limit.
    widths, seeds, square = [16, 64, 256], 96, []
    for n in widths:
        network = NETWORKS[name](n)
        limit = np.asarray(network.ntk(X))
        ntk = np.asarray(finite_kernels(network, seeds)[1])
        square.append(((ntk - limit) ** 2).mean() / (limit**2).mean())
    slope, _ = np.polyfit(np.log(widths), np.log(square), 1)
    assert -1.4 < slope < -0.6, (slope, square)
    assert (np.abs(ntk.mean(0) - limit) < 5 * ntk.std(0) / np.sqrt(seeds)).all()


@once
@pytest.mark.parametrize("name", ["erf", "residual", "norm"])
def test_the_covariance_is_that_of_the_outputs(name):
    network = NETWORKS[name](64)
    f = jax.vmap(lambda key: network.apply(network.init(key, (4,), FLOAT)[1], X)[:, 0])(
        jax.random.split(KEY, 4000)
    )
    sample = np.asarray(f).T @ np.asarray(f) / len(f)
    limit = np.asarray(network.nngp(X))
    spread = np.sqrt((np.outer(np.diag(limit), np.diag(limit)) + limit**2) / len(f))
    assert (np.abs(sample - limit) < 5 * spread + 0.03 * np.abs(limit).max()).all()


def test_init_and_apply():
    network = serial(Dense(7, 2.0, 0.5), Relu(), Dense(2))
    shape, params = network.init(KEY, (4,), FLOAT)
    assert shape == (2,)
    assert network.init(KEY, (-1, 4), FLOAT)[0] == (-1, 2)
    (w, b), relu, (v, none) = params
    assert w.shape == (4, 7)
    assert b.shape == (1, 7)
    assert relu == ()
    assert v.shape == (7, 2)
    assert none is None
    assert w.dtype == b.dtype == v.dtype == FLOAT
    hidden = np.maximum(2.0 / np.sqrt(4) * X @ np.asarray(w) + 0.5 * np.asarray(b), 0)
    assert_close(network.apply(params, X), hidden @ np.asarray(v) / np.sqrt(7), times=10)
    init, apply, kernel = network
    assert init is network.init
    assert apply is network.apply
    assert kernel is network.kernel


def test_standard_parametrisation():
    network = Dense(6, 1.5, 0.3, parameterization="standard", s=(2, 3))
    shape, (w, b) = network.init(KEY, (2000,), FLOAT)
    assert shape == (18,)
    assert w.shape == (2000, 18)
    assert b.shape == (1, 18)
    assert abs(float(w.std()) / (1.5 * np.sqrt(2 / 2000)) - 1) < 0.05
    x = np.random.default_rng(5).normal(size=(3, 2000)).astype(FLOAT)
    assert_close(
        network.apply((w, b), x), x @ np.asarray(w) / np.sqrt(2) + np.asarray(b), times=100
    )
    # K ← W_std² K + b_std², Θ ← N/s₀ K + 1.
    inner = X @ X.T / 4
    one = Dense(6, 1.5, 0.3, parameterization="standard")
    assert_close(one.nngp(X), 1.5**2 * inner + 0.3**2, times=10)
    assert_close(one.ntk(X), 4 * inner + 1, times=10)
    assert_close(Dense(6, 1.5, 0.0, parameterization="standard").ntk(X), 4 * inner + 1, times=10)
    assert_close(Dense(6, 1.5, parameterization="standard").ntk(X), 4 * inner, times=10)
    # The width that a second layer sees is that of the first.
    for first in (Dense(6), Dense(2, parameterization="standard", s=(1, 3))):
        before = first.kernel(X, get=("nngp", "ntk"))
        two = serial(first, Dense(1, 1.0, parameterization="standard", s=(1, 1)))
        assert_close(two.ntk(X), 6 * before.nngp + before.ntk, times=10)


# The kernel


def test_get():
    network = NETWORKS["relu"](8)
    both = network.kernel(X, Z, get=("nngp", "ntk"))
    assert both._fields == ("nngp", "ntk")
    assert (both.nngp == network.nngp(X, Z)).all()
    assert (both.ntk == network.ntk(X, Z)).all()
    assert (both.ntk == network.kernel(X, Z)).all()
    assert network.kernel(X, get=("ntk",)).ntk.shape == (5, 5)
    for get in ("kernel", (), ("ntk", "cov")):
        with refused(ValueError, f'get: expected "nngp", "ntk" or a tuple of these, got {get!r}'):
            network.kernel(X, get=get)


def test_a_kernel_like_all_others():
    network = NETWORKS["relu"](8)
    f = ridge(network.ntk, X, X[:, 0], 1e-3)
    assert f(Z).shape == (3,)
    assert 0 < (f - ridge(network.ntk, X, X[:, 0], 1.0)).norm() < f.norm()
    assert network.ntk == network.ntk != network.nngp
    assert_close((network.ntk + RBF())(X, Z), network.ntk(X, Z) + RBF()(X, Z))
    assert_close((2 * network.nngp)(X), 2 * network.nngp(X))


def test_states_travel_between_layers():
    first, second = Dense(8, 1.3, 0.2), Relu()
    state = second.kernel(first.kernel(from_points(X, Z)))
    assert isinstance(state, State)
    assert state.q1.shape == (5,)
    assert state.q2.shape == (3,)
    assert state.c.shape == (5, 3)
    assert state.chord.shape == state.obtuse.shape == state.ntk.shape == (5, 3)
    unit = 4.0 ** float(state.exponent)
    assert_close(state.c * unit, serial(first, second).nngp(X, Z), times=10)
    assert (state.width, state.gaussian) == (8, False)


@pytest.mark.parametrize("name", ["relu", "norm"])
def test_large_and_small_matrices_jit_and_vmap(name):
    network = NETWORKS[name](8)
    x = np.random.default_rng(4).normal(size=(300, 20)).astype(FLOAT)
    x[7], x[250] = x[3], -x[299]
    compiled = network.ntk(x)
    assert (compiled == compiled.T).all()
    assert_close(compiled[:5, 240:255], network.ntk(x[:5], x[240:255]), times=100)
    assert_close(jax.jit(network.ntk)(x[:9]), network.ntk(x[:9]), times=100)
    batches = x[:12].reshape(3, 4, 20)
    each = [network.ntk(b) for b in batches]
    assert_close(jax.vmap(network.ntk)(batches), each, times=100)


@pytest.mark.parametrize("dtype", sorted({"float32", FLOAT.name}))
def test_dtype_is_kept(dtype):
    layers = [Relu(), Erf(), Elementwise(jnp.tanh), Elementwise(jax.nn.relu, kinks=(0.0,))]
    for activation in layers:
        network = serial(Dense(8, 1.2, 0.1), activation, Dense(1))
        assert network.ntk(X[:2].astype(dtype)).dtype == dtype
        params = network.init(KEY, (4,), dtype)[1]
        assert network.apply(params, X.astype(dtype)).dtype == dtype


@settings(max_examples=8)
@given(
    st.integers(1, 3),
    st.sampled_from([Relu(), LeakyRelu(0.3), Gelu()]),
    st.floats(0.3, 2.0),
    st.sampled_from([None, 0.5]),
    st.integers(0, 2**32 - 1),
)
def test_kernels_are_symmetric_positive_and_know_no_order(depth, activation, w, b, seed):
    network = serial(*[Dense(1, w, b), activation] * depth, Dense(1, w, b))
    x = np.random.default_rng(seed).normal(size=(6, 3)).astype(FLOAT)
    x[1], x[2], x[3] = x[0], -x[0], 2 * x[0]
    order = np.random.default_rng(seed).permutation(6)
    for kernel in (network.nngp, network.ntk):
        gram = np.asarray(kernel(x))
        rounding = 100 * np.finfo(FLOAT).eps * np.abs(gram).max()
        assert (gram == gram.T).all()
        assert np.linalg.eigvalsh(gram)[0] > -rounding
        assert np.abs(gram[np.ix_(order, order)] - kernel(x[order])).max() <= rounding
        assert np.abs(gram - kernel(x, x.copy())).max() <= rounding
        # Equal rows, wherever they stand, have equal rows of the kernel.
        assert np.abs(gram[0] - gram[1]).max() <= rounding


# Any function


def test_elementwise_by_quadrature():
    for fn, kinks, layer in (
        (jax.scipy.special.erf, (), Erf()),
        (lambda x: jnp.sin(1.3 * x), (), Sin(b=1.3)),
        (jax.nn.relu, (0.0,), Relu()),
    ):
        known = serial(Dense(8, 1.2, 0.1), layer, Dense(8, 1.2), layer, Dense(1))
        found = Elementwise(fn, kinks=kinks)
        network = serial(Dense(8, 1.2, 0.1), found, Dense(8, 1.2), found, Dense(1))
        x = np.concatenate([X[:2], -X[:1]])
        for a, b in zip(
            network.kernel(x, get=("nngp", "ntk")),
            known.kernel(x, get=("nngp", "ntk")),
            strict=True,
        ):
            assert_close(a, b, times=20)
        assert_close(found.apply((), X), layer.apply((), X), times=10)


def test_elementwise_by_formula():
    def erf_mean(c, q1, q2):
        return 2 / jnp.pi * jnp.arcsin(2 * c / jnp.sqrt((1 + 2 * q1) * (1 + 2 * q2)))

    def slope(c, q1, q2):
        return 4 / jnp.pi / jnp.sqrt((1 + 2 * q1) * (1 + 2 * q2) - 4 * c**2)

    known = serial(Dense(8, 1.2, 0.1), Erf(), Dense(1))
    for layer in (Elementwise(jax.lax.erf, erf_mean), Elementwise(jax.lax.erf, erf_mean, slope)):
        network = serial(Dense(8, 1.2, 0.1), layer, Dense(1))
        assert_close(network.ntk(X), known.ntk(X), times=10)


def test_elementwise_numerical():
    known = serial(Dense(8), Erf(), Dense(1)).ntk(X)
    slope = lambda x: 2 / np.sqrt(np.pi) * jnp.exp(-(x**2))  # noqa: E731
    for layer in (
        ElementwiseNumerical(jax.lax.erf, 80),
        ElementwiseNumerical(jax.lax.erf, 80, slope),
    ):
        assert_close(serial(Dense(8), layer, Dense(1)).ntk(X), known, times=100)


# What is refused


def test_an_activation_wants_weights_before_it():
    message = "expected a layer with random weights before every activation"
    for network in (Relu(), serial(Dense(3), Relu(), Relu())):
        with refused(ValueError, message):
            network.ntk(X)
    with refused(ValueError, "LayerNorm: expected a layer with random weights before it"):
        serial(Dense(3), Relu(), LayerNorm()).ntk(X)


def test_branches():
    message = "branches: expected all but one to end in a layer with weights"
    for branches in ((Identity(), Identity()), (Relu(), Abs())):
        network = serial(Dense(3), FanOut(2), parallel(*branches), FanInSum())
        with refused(ValueError, message):
            network.ntk(X)
    with refused(ValueError, "network: ends in 2 branches; close them by FanInSum"):
        serial(Dense(3), FanOut(2)).ntk(X)
    with refused(ValueError, "branches: expected one shape, got [(3,), (4,)]"):
        serial(FanOut(2), parallel(Dense(3), Identity()), FanInSum()).init(KEY, (4,))
    with refused(ValueError, "block: expected to keep the shape (4,), got (3,)"):
        repeat(Dense(3), 2).init(KEY, (4,))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Dense(0), ValueError, "out_dim: expected an integer ≥ 1, got 0"),
        (lambda: Dense(1.5), TypeError, "out_dim: expected an integer, got 1.5"),
        (lambda: Dense(1, -1.0), ValueError, "W_std: expected a finite number ≥ 0, got -1"),
        (lambda: Dense(1, 1.0, -1), ValueError, "b_std: expected a finite number ≥ 0, got -1"),
        (
            lambda: Dense(1, parameterization="mup"),
            ValueError,
            'parameterization: expected "ntk" or "standard", got \'mup\'',
        ),
        (
            lambda: Dense(1, s=(1, 2)),
            ValueError,
            's: expected (1, 1) unless parameterization="standard", got (1, 2)',
        ),
        (lambda: LayerNorm(-1.0), ValueError, "eps: expected a finite number ≥ 0, got -1"),
        (lambda: FanOut(0), ValueError, "num: expected an integer ≥ 1, got 0"),
        (lambda: repeat(Relu(), 0), ValueError, "times: expected an integer ≥ 1, got 0"),
        (lambda: Elementwise(3), TypeError, "fn: expected a function, got 3"),
        (
            lambda: deep_ntk.Gaussian(1.0, 1.0),
            ValueError,
            "-b: expected a finite number > 0, got -1",
        ),
        (
            lambda: deep_ntk.Polynomial([]),
            ValueError,
            "coefficients: expected at least one, got none",
        ),
    ],
)
def test_arguments_are_checked(make, error, message):
    with refused(error, message):
        make()


def test_points_are_checked():
    network = serial(Dense(1), Relu())
    assert isinstance(network, Layer)
    with refused(TypeError, "x1: expected float32 or float64, got int64"):
        network.ntk(np.ones((2, 3), int))
    with refused(ValueError, "x2: expected shape (n, 4), got (2, 3)"):
        network.ntk(X, np.ones((2, 3), FLOAT))
    with refused(ValueError, "x1: 1 of 20 entries are NaN or infinite"):
        network.ntk(np.where(np.arange(20).reshape(5, 4) == 3, np.nan, X).astype(FLOAT))
