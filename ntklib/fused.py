"""Which kernels have a faster form for many points; with it, all layers are fused in a tile.

Fully connected networks Dense, φ, Dense, …, φ, Dense in the NTK parametrisation with φ = ReLU
(any weights, and biases if all layers have the same), erf or GELU: `gram`, `solve` and the
functions they return take the fast form of ``net.ntk`` and ``net.nngp`` by themselves. Kernels of
the distance are made from products of matrices; sums, products and multiples from their parts.
"""

import math
from typing import Any

from ntklib.distances import ByProducts
from ntklib.dual_activations import erf, gelu, relu
from ntklib.kernels import KernelFunction, Product, Scaled, Sum, as_kernel
from ntklib.layers import Limit
from ntklib.relu_network import ReluNetwork
from ntklib.smooth_network import SmoothNetwork
from ntklib.stationary import RBF, Laplace, Matern, Stationary

__all__ = ["fused"]

SMOOTH = {"erf": erf, "gelu": gelu}
LARGEST = 16.0
"""Of W_std and b_std, beyond which the fused smooth formulas would lose digits."""


def fused(kernel: KernelFunction) -> KernelFunction:
    """The same kernel in its faster form, if it has one; else itself."""
    if isinstance(kernel, Sum | Product):
        return type(kernel)(as_kernel(fused(kernel.left)), as_kernel(fused(kernel.right)))
    if isinstance(kernel, Scaled):
        return Scaled(as_kernel(fused(kernel.kernel)), kernel.scale)
    # Not their subclasses, which may compute something else.
    if isinstance(kernel, Stationary) and type(kernel) in (RBF, Laplace, Matern):
        return ByProducts(kernel)
    return _network(kernel) if isinstance(kernel, Limit) else kernel


def _network(kernel: Limit) -> KernelFunction:
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
