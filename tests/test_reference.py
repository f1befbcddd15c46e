"""Kernels of fully connected networks against neural-tangents 0.6.5 and 50 digits."""

import json
import pathlib

import jax.numpy as jnp
import numpy as np
import pytest

from ntklib import deep_ntk
from ntklib.deep_ntk import Dense, FanInSum, FanOut, Identity, LayerNorm, parallel, serial

HERE = pathlib.Path(__file__).parent / "reference"
CASES = json.loads((HERE / "fully_connected.json").read_text())["cases"]

i, j = np.arange(6)[:, None], np.arange(10)[None]
angles = np.array([0, 1e-8, 1e-6, 1e-4, 1e-2, 1, np.pi])
INPUTS = {
    "X1": np.sin(1.3 * i + 0.7 * j + 0.3 * i * j),
    "X2": np.cos(0.9 * i[:4] + 1.1 * j + 0.2 * i[:4] * j),
    "U01": np.stack([np.cos(angles), np.sin(angles)], 1),
    None: None,
}


def build(spec):
    """The network of a specification, a list of [layer, arguments]."""
    layers = []
    for name, given in spec:
        if name == "Residual":
            branch = build(given["branch"])
            layers += [FanOut(2), parallel(branch, Identity()), FanInSum()]
        elif name == "DenseStd":
            layers.append(Dense(parameterization="standard", **given))
        elif name == "LayerNorm":
            layers.append(LayerNorm(eps=given["eps"]))
        elif name == "Gelu":
            layers.append(deep_ntk.Gelu())
        elif name == "NumericalTanh":
            layers.append(deep_ntk.ElementwiseNumerical(jnp.tanh, given["deg"]))
        else:
            layers.append(getattr(deep_ntk, name)(**given))
    return serial(*layers)


@pytest.mark.skipif(jnp.result_type(float) == "float32", reason="the arrays are float64")
@pytest.mark.parametrize("name", CASES)
def test_fully_connected(name):
    case = CASES[name]
    net, arrays = build(case["spec"]), np.load(HERE / "fully_connected.npz")
    x1, x2 = INPUTS[case["x1"]], INPUTS[case["x2"]]
    kernels = {"11": net.kernel(x1, get=("nngp", "ntk"))}
    if x2 is not None:
        kernels["12"] = net.kernel(x1, x2, get=("nngp", "ntk"))
    for key, tolerance in case["tolerance"].items():
        which = kernels["12" if key.endswith("12") else "11"]
        actual, expected = which.ntk if "ntk" in key else which.nngp, arrays[f"{name}/{key}"]
        assert np.abs(actual - expected).max() <= tolerance * np.abs(expected).max(), key
