"""Properties that every kernel of the book has, on points drawn by hypothesis.

Symmetry, positive semidefiniteness, independence of the order of the points and of the tile, the
dtype, and how values scale with the points.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from ntklib.deep_ntk import Dense, Erf, Gelu, LeakyRelu, Relu, Sin, serial
from ntklib.gram import gram
from ntklib.kernels import FromFunction, Linear, Polynomial
from ntklib.matrix_kernels import Tensor
from ntklib.random_features import FeatureKernel, random_features
from ntklib.relu_network import ReluNetwork
from ntklib.stationary import RBF, Laplace, Matern

FLOAT = "float64" if jax.config.jax_enable_x64 else "float32"
EPS = float(np.finfo(FLOAT).eps)
D = 3


def network(layer: Any, bias: float | None) -> Any:
    return serial(Dense(1, 1.4, bias), layer, Dense(1, 1.1, bias), layer, Dense(1))


KERNELS: dict[str, Any] = {
    "linear": Linear(),
    "polynomial": Polynomial(3, 0.5),
    "rbf": RBF(0.7),
    "laplace": Laplace(0.7),
    "matern 3/2": Matern(0.7, 1.5),
    "sum of products": RBF(0.7) * Linear() + 0.3 * Laplace(1.0),
    "function": FromFunction(lambda a, b: a @ b.T),
    "features": FeatureKernel(random_features(RBF(1.0), D, 32, jax.random.key(0), dtype=FLOAT)),
    "matrix-valued": Tensor(RBF(0.7), np.array([[2.0, 0.5], [0.5, 1.0]], FLOAT)),
    "relu ntk": network(Relu(), None).ntk,
    "relu nngp": network(Relu(), None).nngp,
    "leaky ntk": serial(Dense(1, 1.4, 0.1), LeakyRelu(0.2), Dense(1)).ntk,
    "erf ntk": network(Erf(), 0.1).ntk,
    "gelu ntk": network(Gelu(), 0.1).ntk,
    "sin ntk": serial(Dense(1, 1.4, 0.1), Sin(), Dense(1)).ntk,
    "fused relu": ReluNetwork(3, b_std=0.2),
}
HOMOGENEOUS = {"linear": 2, "function": 2, "relu ntk": 2, "relu nngp": 2}

# One shape, so that each kernel is compiled once.
entries = st.integers(-64, 64).map(lambda i: i / 16)
points = st.lists(entries, min_size=8 * D, max_size=8 * D).map(
    lambda values: np.array(values, FLOAT).reshape(8, D)
)
quick = settings(
    max_examples=8,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
)
for_every = pytest.mark.parametrize("name", KERNELS)


def flat(values: np.ndarray) -> np.ndarray:
    """A Gram matrix of scalars: outputs become part of the points."""
    if values.ndim == 2:
        return values
    n, _, m, _ = values.shape
    return values.transpose(0, 2, 1, 3).reshape(n * m, n * m)


def holds_on(name: str, check: Callable[[Any, np.ndarray], None]) -> None:
    @quick
    @given(points)
    def run(x: np.ndarray) -> None:
        check(KERNELS[name], x)

    run()


@for_every
def test_symmetric_semidefinite_and_of_the_points_dtype(name: str) -> None:
    def check(kernel: Any, x: np.ndarray) -> None:
        values = flat(gram(kernel, x))
        assert values.dtype == FLOAT
        assert np.array_equal(values, values.T)
        size = max(float(np.trace(values)), EPS)
        assert np.linalg.eigvalsh(values.astype(float))[0] >= -30 * EPS * size

    holds_on(name, check)


@for_every
def test_the_order_of_the_points_and_the_tile_do_not_matter(name: str) -> None:
    def check(kernel: Any, x: np.ndarray) -> None:
        values = gram(kernel, x)
        order = np.array([3, 1, 7, 0, 2, 6, 5, 4])
        size = np.abs(values).max()
        assert np.abs(gram(kernel, x[order]) - values[order][:, order]).max() <= 100 * EPS * size
        assert np.abs(gram(kernel, x, tile=4) - values).max() <= 100 * EPS * size
        apart = gram(kernel, x, x[:4], tile=4)
        # The same entries; of equal points of two batches it does not know that they are equal.
        assert np.abs(apart - values[:, :4]).max() <= 1e4 * EPS * size

    holds_on(name, check)


@pytest.mark.parametrize("name", HOMOGENEOUS)
def test_values_scale_with_the_points(name: str) -> None:
    def check(kernel: Any, x: np.ndarray) -> None:
        values, power = gram(kernel, x), HOMOGENEOUS[name]
        scaled = gram(kernel, np.asarray(4.0, FLOAT) * x)
        assert np.abs(scaled - 4.0**power * values).max() <= 1000 * EPS * np.abs(scaled).max()

    holds_on(name, check)


def test_a_function_that_is_no_kernel_is_found() -> None:
    def check(kernel: Any, x: np.ndarray) -> None:
        values = gram(
            lambda a, b=None: -((a[:, None] - (a if b is None else b)[None]) ** 2).sum(-1), x
        )
        assert np.linalg.eigvalsh(values.astype(float))[0] >= -30 * EPS * np.abs(values).max()

    with pytest.raises(AssertionError):
        holds_on("rbf", check)
