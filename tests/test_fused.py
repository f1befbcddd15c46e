"""The fused kernels against the layer-by-layer ones of the same networks, written apart."""

from typing import Any

import jax
import numpy as np
import pytest
from helpers import refused

from ntklib.deep_ntk import Dense, Erf, Gelu, LayerNorm, LeakyRelu, Relu, repeat, serial
from ntklib.fused import fused
from ntklib.gram import gram
from ntklib.kernels import Linear
from ntklib.layers import Layer
from ntklib.relu_network import ReluNetwork
from ntklib.smooth_network import SmoothNetwork
from ntklib.stationary import RBF, Laplace, Matern

FLOAT = "float64" if jax.config.jax_enable_x64 else "float32"
EPS = float(np.finfo(FLOAT).eps)


def network(layer: Layer, dense: list[tuple[float, float | None]]) -> Layer:
    parts = [part for w, b in dense for part in (Dense(1, w, b), layer)]
    return serial(*parts[:-1])


def points() -> np.ndarray:
    """Random points, with equal, opposite and scaled ones among them, and zero."""
    x = np.random.default_rng(0).standard_normal((14, 5))
    x[3], x[5], x[7], x[9] = x[2], -x[4], 5 * x[6], 0
    return x.astype(FLOAT)


FUSED = {
    "relu": (Relu(), [(1.3, None), (0.9, None), (1.0, 0.0)], ReluNetwork),
    "relu with biases": (Relu(), [(1.3, 0.2)] * 3, ReluNetwork),
    "erf": (Erf(), [(1.3, 0.2), (2.0, None), (1.0, 0.5)], SmoothNetwork),
    "gelu": (Gelu(), [(1.3, 0.2), (1.5, None), (1.0, 0.5)], SmoothNetwork),
}


@pytest.mark.parametrize("get", ["ntk", "nngp"])
@pytest.mark.parametrize("name", FUSED)
def test_the_fused_kernel_is_that_of_the_network(name: str, get: str) -> None:
    layer, dense, form = FUSED[name]
    kernel = getattr(network(layer, dense), get)
    assert isinstance(fused(kernel), form)
    x = points()
    for other in (None, x[2:9] + np.asarray(0.1, FLOAT)):
        wanted, found = np.asarray(kernel(x, other)), gram(kernel, x, other)
        assert found.dtype == FLOAT
        assert np.abs(found - wanted).max() < 60 * EPS * np.abs(wanted).max()


@pytest.mark.parametrize(
    "net",
    [
        serial(Dense(1), LeakyRelu(0.1), Dense(1)),
        serial(Dense(1), LayerNorm(), Relu(), Dense(1)),
        serial(Dense(1), Relu()),
        serial(Dense(1), Dense(1)),
        serial(Dense(1), Relu(), Erf(), Dense(1)),
        serial(Dense(1), Relu(), Dense(1), Erf(), Dense(1)),
        serial(Dense(1, parameterization="standard"), Relu(), Dense(1)),
        serial(Dense(1, 1.0, 0.1), Relu(), Dense(1)),
        serial(Dense(1, 0.0), Relu(), Dense(1)),
        serial(Dense(1, 20.0), Erf(), Dense(1)),
        serial(Dense(1), repeat(serial(Relu(), Dense(1)), 3)),
    ],
)
def test_other_networks_keep_the_general_recursion(net: Layer) -> None:
    assert type(fused(net.ntk)).__name__ == "Limit"


def test_nested_networks_are_seen_through() -> None:
    block = serial(Relu(), Dense(1))
    assert fused(serial(Dense(1), serial(block, block)).nngp) == ReluNetwork(2, 1.0, get="nngp")


@pytest.mark.parametrize(
    "kernel",
    [RBF(0.7), Laplace(2.0), Matern(0.7, 2.5), RBF(0.7) * Linear() + 0.3 * Matern(1.0, 0.5)],
    ids=["rbf", "laplace", "matern", "sum"],
)
@pytest.mark.parametrize("far", [0.0, 30.0])
def test_distances_from_products_keep_their_digits(kernel: Any, far: float) -> None:
    x = points()
    x[1] = x[0] + np.asarray(1e-3, FLOAT)
    x += np.asarray(far, FLOAT)
    for other in (None, x[2:9] + np.asarray(0.1, FLOAT)):
        wanted, found = np.asarray(kernel(x, other)), gram(kernel, x, other)
        assert np.abs(found - wanted).max() < 60 * EPS * np.abs(wanted).max()
    assert "ByProducts" in repr(fused(kernel))


def test_other_functions_are_left_alone() -> None:
    def kernel(x1: object, x2: object = None) -> None: ...

    assert fused(kernel) is kernel


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"activation": "tanh"}, """activation: expected "erf" or "gelu", got 'tanh'"""),
        (
            {"W_std": (1.0,)},
            "W_std, b_std: expected two or more layers and as many biases as weights, got 1 and 2",
        ),
        ({"W_std": (1.0, 0.0)}, "W_std: expected a finite number > 0, got 0"),
        ({"b_std": (0.0, -1.0)}, "b_std: expected a finite number ≥ 0, got -1"),
        ({"get": "both"}, """get: expected "ntk" or "nngp", got 'both'"""),
    ],
)
def test_bad_arguments_are_refused(change: dict[str, Any], told: str) -> None:
    good: dict[str, Any] = {"activation": "erf", "W_std": (1.0, 1.0), "b_std": (0.0, 0.0)}
    with refused(ValueError, told):
        SmoothNetwork(**{**good, **change})
