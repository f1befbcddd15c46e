"""Which networks have a kernel that is computed with all layers fused in a tile.

Fully connected networks Dense, φ, Dense, …, φ, Dense in the NTK parametrisation with φ = ReLU
(any weights, and biases if all layers have the same), erf or GELU: `gram`, `solve` and the
functions they return take the fast form of ``net.ntk`` and ``net.nngp`` by themselves.
"""

import math
from typing import Any

from ntklib.dual_activations import erf, gelu, relu
from ntklib.kernels import KernelFunction
from ntklib.layers import Limit
from ntklib.relu_network import ReluNetwork
from ntklib.smooth_network import SmoothNetwork

__all__ = ["fused"]

SMOOTH = {"erf": erf, "gelu": gelu}
LARGEST = 16.0
"""Of W_std and b_std, beyond which the fused smooth formulas would lose digits."""


def fused(kernel: KernelFunction) -> KernelFunction:
    """The same kernel with its layers fused, if it is one of those networks; else itself."""
    if not isinstance(kernel, Limit):
        return kernel
    parts: list[Any] = getattr(kernel.kernel, "parts", [])
    dense, between = parts[::2], parts[1::2]
    if len(parts) % 2 == 0 or not between or not all(isinstance(p, tuple) for p in dense):
        return kernel
    if any(len(p) != 2 for p in dense):
        return kernel
    weights, biases = zip(*dense, strict=True)
    if min(weights) <= 0:
        return kernel
    if all(_is(p, relu) for p in between):
        if not any(biases):
            mean = math.exp(sum(map(math.log, weights)) / len(weights))
            return ReluNetwork(len(between), mean, 0.0, kernel.get)
        if len(set(dense)) == 1:
            return ReluNetwork(len(between), weights[0], biases[0], kernel.get)
        return kernel
    for name, activation in SMOOTH.items():
        if all(_is(p, activation) for p in between) and max(*weights, *biases) <= LARGEST:
            return SmoothNetwork(name, weights, biases, kernel.get)
    return kernel


def _is(part: Any, activation: Any) -> bool:
    return part is activation
