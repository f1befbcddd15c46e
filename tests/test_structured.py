"""Which uses of a parameter are contracted without a Jacobian, and that none comes out wrong."""

import equinox as eqx
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx
from helpers import assert_close

from ntklib.structured import factors
from ntklib.tangent import tangent_kernel

FLOAT = jnp.result_type(float)
WIDTH = 17
rng = np.random.default_rng(8)
X = rng.normal(size=(4, 5)).astype(FLOAT)
Z = rng.normal(size=(3, 5)).astype(FLOAT)
IMAGES = rng.normal(size=(3, 6, 6, 2)).astype(FLOAT)
key = jax.random.key(3)


def array(*shape):
    return jnp.asarray(rng.normal(size=shape), FLOAT)


def plain():
    params = [(array(5, WIDTH), array(WIDTH)), (array(WIDTH, 2), array(2))]

    def apply(params, x):
        (w1, b1), (w2, b2) = params
        return jax.nn.relu(x @ w1 / 5**0.5 + b1[None]) @ (w2 / WIDTH**0.5) + 0.1 * b2[None]

    return apply, params


def flax_linen():
    net = linen.Sequential([linen.Dense(WIDTH), jnp.tanh, linen.LayerNorm(), linen.Dense(2)])
    params = net.init(key, X)
    return net.apply, params


def flax_nnx():
    class Net(nnx.Module):
        def __init__(self, rngs):
            self.first = nnx.Linear(5, WIDTH, rngs=rngs)
            self.second = nnx.Linear(WIDTH, 2, rngs=rngs)

        def __call__(self, x):
            return self.second(nnx.gelu(self.first(x)))

    graph, params = nnx.split(Net(nnx.Rngs(0)))
    return lambda params, x: nnx.merge(graph, params)(x), params


def equinox():
    net = eqx.nn.MLP(5, 2, WIDTH, depth=2, key=key)
    params, static = eqx.partition(net, eqx.is_inexact_array)
    return lambda params, x: jax.vmap(eqx.combine(params, static))(x), params


def haiku():
    net = hk.without_apply_rng(hk.transform(lambda x: hk.nets.MLP([WIDTH, WIDTH, 2])(x)))
    return net.apply, net.init(key, X)


@pytest.fixture
def promotion():
    """Flax promotes dtypes on its way."""
    with jax.numpy_dtype_promotion("standard"):
        yield


LIBRARIES = [plain, flax_linen, flax_nnx, equinox, haiku]


def in_dtype(params):
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, FLOAT), params)


def by_jacobian(apply, params, x1, x2):
    """Θ from JAX's own Jacobian of the whole batch, summed in NumPy."""

    def rows(x):
        leaves = jax.tree.leaves(jax.jacrev(apply)(params, x))
        return np.concatenate([np.asarray(a).reshape(len(x), 2, -1) for a in leaves], axis=2)

    return np.einsum("iap,jbp->ijab", rows(x1), rows(x2))


@pytest.mark.usefixtures("promotion")
@pytest.mark.parametrize("make", LIBRARIES)
def test_networks_of_every_library(make):
    apply, params = make()
    params, apply = in_dtype(params), jax.jit(apply)
    wanted = by_jacobian(apply, params, X, Z)
    assert_close(tangent_kernel(apply, params)(X, Z), wanted, times=20)


@pytest.mark.usefixtures("promotion")
@pytest.mark.parametrize("make", LIBRARIES)
def test_no_factor_of_a_dense_network_has_the_size_of_a_weight(make):
    apply, params = make()
    params = in_dtype(params)
    groups = factors(lambda p, point: apply(p, point[None])[0], params, X)
    assert max(g.shape[2] for g, _ in groups) <= WIDTH
    assert max(a.shape[1] for _, a in groups) <= WIDTH + 1  # the weight's side, and the bias's


def test_a_bias_shares_the_factor_of_its_weight():
    apply, params = plain()
    groups = factors(lambda p, point: apply(p, point[None])[0], params, X)
    assert sorted(g.shape[1:] for g, _ in groups) == [(2, 2), (2, WIDTH)]
    assert sorted(a.shape[1] for _, a in groups) == [6, WIDTH + 1]


def twice(w, x):
    return jnp.tanh(x[:, :3] @ w) @ w[:, :2]


def tied(w, x):
    return jnp.tanh(x @ w) @ w.T[:, :2]


def sequence(w, x):
    """One weight at three positions."""
    return jnp.tanh(jnp.stack([x, x**2, 1 - x], axis=1) @ w).sum(axis=1)


def scanned(w, x):
    return jax.lax.scan(lambda h, v: (jnp.tanh(h @ v), None), x, w)[0][:, :2]


def recomputed(w, x):
    return jax.checkpoint(lambda h: jnp.tanh(h @ w))(x)


def scaled_by_data(w, x):
    return (x @ w) * x[:, :2] - x.sum(axis=1)[:, None] * (x @ w)


def negated_and_divided(w, x):
    return -(x @ (2 * w.reshape(2, 5).T)) / jnp.asarray(3.0, x.dtype)


def gathered(w, x):
    return w[jnp.argmax(x, axis=1)]


def unused(w, x):
    return x @ w["used"]


def traced_scale(w, x):
    return (x @ w["weight"]) * w["scale"]


UNUSUAL = {
    "twice": (twice, array(3, 3)),
    "tied": (tied, array(5, 5)),
    "sequence": (sequence, array(5, 2)),
    "scanned": (scanned, array(3, 5, 5)),
    "recomputed": (recomputed, array(5, 2)),
    "scaled by data": (scaled_by_data, array(5, 2)),
    "negated and divided": (negated_and_divided, array(10)),
    "gathered": (gathered, array(5, 2)),
    "unused": (unused, {"used": array(5, 2), "unused": array(4)}),
    "traced scale": (traced_scale, {"weight": array(5, 2), "scale": array()}),
}


@pytest.mark.parametrize(("apply", "params"), UNUSUAL.values(), ids=UNUSUAL)
def test_parameters_used_in_unusual_ways(apply, params):
    wanted = by_jacobian(apply, params, X, Z)
    assert_close(tangent_kernel(apply, params)(X, Z), wanted, times=20)


def test_convolutions_of_images():
    net = linen.Sequential(
        [linen.Conv(4, (3, 3)), linen.relu, lambda h: h.mean(axis=(1, 2)), linen.Dense(2)]
    )
    params = in_dtype(net.init(key, IMAGES.astype(np.float32)))
    wanted = by_jacobian(net.apply, params, IMAGES, IMAGES)
    assert_close(tangent_kernel(net.apply, params)(IMAGES), wanted, times=20)


def test_a_network_that_ignores_its_parameters_has_no_tangent_kernel():
    kernel = tangent_kernel(lambda w, x: x[:, :2], jnp.ones(3, FLOAT))
    assert_close(kernel(X, Z), np.zeros((4, 3, 2, 2)))
