"""Kernels of infinitely wide networks against 50 digits, near equal and opposite points too."""

import exact_limits as exact
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntklib import deep_ntk as net
from ntklib.deep_ntk import Dense, FanInSum, FanOut, Identity, parallel, serial

FLOAT = jnp.result_type(float)
LAYERS = {
    "relu": (net.Relu(), exact.piecewise(0, 1)),
    "leaky": (net.LeakyRelu(0.25), exact.piecewise(0.25, 1)),
    "bent": (net.ABRelu(-0.5, 2.0), exact.piecewise(-0.5, 2)),
    "abs": (net.Abs(), exact.piecewise(-1, 1)),
    "sign": (net.Sign(), exact.sign),
    "step": (net.RectifiedMonomial(0), exact.step0),
    "ramp2": (net.RectifiedMonomial(2), exact.ramp2),
    "cube": (net.Monomial(3), exact.cube),
    "erf": (net.Erf(), exact.erf),
    "gelu": (net.Gelu(), exact.gelu),
    "sin": (net.Sin(), exact.sin),
    "cos": (net.Cos(), exact.cos),
    "rbf": (net.Rbf(1.0), exact.rbf),
    "gaussian": (net.Gaussian(), exact.gaussian),
    "exp": (net.Exp(), exact.exponential),
}
# In float64 up to rounding; in float32 the reference sees the points as float32 rounds them.
TOLERANCE = {"float32": 2e-5, "float64": 1e-13}[FLOAT.name]


def hard_points(d):
    """Equal, nearly equal, parallel, opposite and nearly opposite points, in no order."""
    rng = np.random.default_rng(0)
    x, z = rng.normal(size=d), rng.normal(size=d)
    rows = [x, x + 1e-8 * z, -x, x, x + 1e-3 * z, 2 * x, x + 0.05 * z, -x + 1e-8 * z]
    return np.stack([*rows, -0.5 * x, x + 1e-5 * z, z, -x + 1e-4 * z]).astype(FLOAT)


def assert_exact(names, w, b, x):
    layers = [layer for name in names for layer in (Dense(1, w, b), LAYERS[name][0])]
    network = serial(*layers, Dense(1, w, b))
    moments = [LAYERS[name][1] for name in names]
    pairs = {
        (i, j): exact.network(moments, w, b or 0, x[i], x[j])
        for i in range(len(x))
        for j in range(i, len(x))
    }
    for which, kernel in enumerate((network.nngp, network.ntk)):
        one, two = np.asarray(kernel(x)), np.asarray(kernel(x, x.copy()))
        assert (one == one.T).all()
        size = [float(pairs[i, i][which]) ** 0.5 for i in range(len(x))]
        for (i, j), value in pairs.items():
            for got in (one[i, j], two[i, j], two[j, i]):
                missed = float(abs(exact.mpf(float(got)) - value[which]))
                assert missed <= TOLERANCE * size[i] * size[j], (names, which, i, j)


@pytest.mark.parametrize("name", LAYERS)
def test_one_hidden_layer(name):
    assert_exact([name], 1.5, None, hard_points(3))


@pytest.mark.parametrize(
    "names",
    ["relu relu relu", "leaky abs", "erf relu", "gelu relu", "cos abs", "ramp2 relu", "cube sign"],
)
def test_deep_networks(names):
    assert_exact(names.split(), 1.2, 0.3, hard_points(3))
    assert_exact(names.split(), 1.5, None, hard_points(3))


def test_many_features():
    # Nearly equal rows are found in tiles there, and the last tiles overlap.
    x = hard_points(40)
    x = np.concatenate([x, np.random.default_rng(1).normal(size=(9, 40)).astype(FLOAT), x[:2]])
    assert_exact(["relu", "relu"], 1.2, 0.3, x)


@pytest.mark.parametrize("name", ["relu", "erf", "gelu", "sin", "cube"])
def test_points_of_any_size(name):
    x = hard_points(3)[[0, 1, 2, 5, 10]]
    small, large = (1e-12, 1e3) if name in ("relu", "erf") else (1e-6, 10.0)
    for scale in (small, large):
        assert_exact([name], 1.5, None, (scale * x).astype(FLOAT))


def test_residual_sums():
    # x + branch(x): covariances and tangent kernels of independent branches add.
    branch = serial(net.Relu(), Dense(1, 1.2, 0.1))
    residual = serial(FanOut(2), parallel(branch, Identity()), FanInSum())
    network = serial(Dense(1, 1.5, 0.1), residual, residual, net.Relu(), Dense(1))
    x = hard_points(3)

    def moments(x, y):
        inner = [exact.mpf(float(a @ b)) for a, b in ((x, x), (y, y), (x, y))]
        x, y = ([exact.mpf(float(v)) for v in row] for row in (x, y))
        inner = [sum(p * q for p, q in zip(a, b, strict=True)) for a, b in ((x, x), (y, y), (x, y))]
        w2, b2 = exact.mpf(1.5) ** 2, exact.mpf(0.1) ** 2
        q1, q2, c = (w2 * v / len(x) + b2 for v in inner)
        ntk = c
        relu, v2 = exact.piecewise(0, 1), exact.mpf(1.2) ** 2
        for _ in range(2):
            value, slope = relu(q1, q2, c)
            ntk = ntk + v2 * (value + slope * ntk) + b2
            q1, q2, c = q1 + v2 * q1 / 2 + b2, q2 + v2 * q2 / 2 + b2, c + v2 * value + b2
        value, slope = relu(q1, q2, c)
        return value, value + slope * ntk

    kernels = network.kernel(x, get=("nngp", "ntk"))
    for which, gram in enumerate(kernels):
        for i in range(len(x)):
            for j in range(len(x)):
                value = moments(x[i], x[j])[which]
                assert abs(float(gram[i, j] - float(value))) <= TOLERANCE * float(gram.max())


def test_float32_at_depth_1000():
    # In the angle: cosine 1/2 at depth 1000 keeps seven digits, in the cosine one.
    x = np.array([[1.0, 0.0], [0.5, np.sqrt(0.75)]], np.float32)
    block = serial(net.Relu(), Dense(1, np.sqrt(2)))
    deep = serial(Dense(1, np.sqrt(2)), net.repeat(block, 1000))
    relu = exact.piecewise(0, 1)
    x64 = [[exact.mpf(float(v)) for v in row] for row in x]
    q1, q2, c = (
        sum(a * b for a, b in zip(p, q, strict=True))
        for p, q in ((x64[0], x64[0]), (x64[1], x64[1]), (x64[0], x64[1]))
    )
    ntk = c
    for _ in range(1000):
        value, slope = relu(q1, q2, c)
        c, ntk = 2 * value, 2 * (value + slope * ntk)
    got = deep.kernel(x, get=("nngp", "ntk"))
    assert got.ntk.dtype == np.float32
    assert abs(float(got.nngp[0, 1]) - float(c)) < 3e-6
    assert abs(float(got.ntk[0, 1]) / float(ntk) - 1) < 1e-5
    assert abs(float(got.ntk[0, 0]) / 1001 - 1) < 1e-6
    # Θ_L/L tends to 1/4 off the diagonal, as the angle degenerates.
    assert 0.24 < float(got.ntk[0, 1]) / 1001 < 0.26


@pytest.mark.parametrize("depth", [10, 1000])
def test_the_diagonal_in_float32(depth):
    # Θ(x, x) = (depth + 1) · 2‖x‖²/d, to a few ε however many layers are summed.
    x = np.random.default_rng(6).normal(size=(20, 7)).astype(np.float32)
    block = serial(net.Relu(), Dense(1, np.sqrt(2)))
    deep = serial(Dense(1, np.sqrt(2)), net.repeat(block, depth))
    exact_diagonal = (depth + 1) * 2 * (x.astype(float) ** 2).mean(1)
    found = np.diag(deep.ntk(x)).astype(float)
    assert np.abs(found / exact_diagonal - 1).max() < 4 * np.finfo(np.float32).eps


@pytest.mark.parametrize("name", ["relu", "abs", "erf"])
def test_repeat_is_serial(name):
    block = serial(Dense(5, 1.3, 0.2), LAYERS[name][0])
    x = hard_points(3)
    one = serial(*[block] * 6, Dense(1))
    two = serial(net.repeat(block, 6), Dense(1))
    for a, b in zip(
        one.kernel(x, get=("ntk", "nngp")), two.kernel(x, get=("ntk", "nngp")), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=100 * np.finfo(FLOAT).eps)


def test_nothing_overflows_on_the_way():
    # Variances pass 10^±60 in float32, and come back.
    x = hard_points(3).astype(np.float32)
    for w in (4.0, 0.25):
        half = [Dense(1, w), net.Relu()] * 67
        back = [Dense(1, 2 / w), net.Relu()] * 67
        plain = serial(*([Dense(1, np.sqrt(2)), net.Relu()] * 134), Dense(1))
        there = serial(*half, *back, Dense(1))
        a, b = plain.kernel(x, get=("nngp", "ntk")), there.kernel(x, get=("nngp", "ntk"))
        np.testing.assert_allclose(a.nngp, b.nngp, rtol=1e-4, atol=1e-5)
        assert np.isfinite(b.ntk).all()
        normal = serial(*half, Dense(1), net.LayerNorm(0.0), net.Erf()).nngp(x)
        near = serial(
            *([Dense(1, np.sqrt(2)), net.Relu()] * 67), Dense(1), net.LayerNorm(0.0), net.Erf()
        )
        np.testing.assert_allclose(normal, near.nngp(x), rtol=1e-4, atol=1e-5)
    with pytest.raises(FloatingPointError, match="nngp: overflows float32"):
        serial(*[Dense(1, 4.0), net.Relu()] * 67, Dense(1)).nngp(x)


@pytest.mark.parametrize("name", ["relu", "gelu", "cos", "ramp2"])
def test_gradients_at_equal_opposite_and_zero_points(name):
    x = np.stack([[1.0, 2.0, -1.0], [0.5, 0.0, 1.0], [0.0, 0.0, 0.0]]).astype(FLOAT)
    both, layer = np.concatenate([x, -x, 2 * x]), LAYERS[name][0]
    for b in (None, 0.5):
        network = serial(Dense(1, 0.7, b), layer, Dense(1, 0.7, b), layer, Dense(1))

        def total(x, network=network):
            return sum(k.sum() for k in network.kernel(x, both, get=("nngp", "ntk")))

        backward = jax.grad(total)(both)
        assert np.isfinite(backward).all()
        _, forward = jax.jvp(total, (both,), (both[::-1],))
        np.testing.assert_allclose(forward, (backward * both[::-1]).sum(), rtol=1e-4, atol=1e-4)


@pytest.mark.skipif(np.float32 == FLOAT, reason="finite differences")
@pytest.mark.parametrize("name", ["relu", "erf", "gelu", "ramp2"])
def test_gradients_are_the_derivatives(name):
    # Of K everywhere, also at x = y; behind a bias also at x = 0.
    network = serial(Dense(1, 1.2, 0.5), LAYERS[name][0], Dense(1, 1.2, 0.5))
    rng = np.random.default_rng(5)
    x, y, step = rng.normal(size=(1, 3)), rng.normal(size=(1, 3)), rng.normal(size=(1, 3))
    apart = [(x, y), (np.zeros((1, 3)), y)]
    for kernel, points in ((network.nngp, [*apart, (y, y), (-y, y)]), (network.ntk, apart)):
        for at, other in points:
            slope = jax.grad(lambda x, k=kernel, o=other: k(x, o)[0, 0])(at)
            h = 1e-5
            change = kernel(at + h * step, other) - kernel(at - h * step, other)
            tolerance = 1e-4 if at is y or at is -y else 1e-8
            np.testing.assert_allclose(
                (slope * step).sum(), float(change[0, 0]) / (2 * h), rtol=tolerance, atol=tolerance
            )
