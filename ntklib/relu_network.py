"""The tangent kernel of an infinitely wide ReLU network in as few operations as are known.

With the standard deviations √q of the two points divided out, a hidden layer acts on the gap
g = 1 − cos θ and on T = Θ/√(q q') alone (:prf:ref:`prop-gap`). From ReLU, g ↦ g − δ(g) with
πδ = sin θ − θ cos θ and κ₀ = 1 − θ/π. A layer of weights and biases, of which the weights give
the share a² of a point's
variance and the biases the share b² = 1 − a², then takes

    g ↦ ½((a − a')² + (b − b')²) + a a' g,        T ↦ (1 − g) + a a' κ₀ T.

Nothing cancels, so that near points keep their digits at any depth; without biases a = 1, b = 0.
One square root and two polynomials a layer and pair: the rest of the work is ⟨x, x'⟩.
"""

from dataclasses import field

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from ntklib import _check
from ntklib.arccos import acute, defect
from ntklib.kernels import Kernel, pytree, set_fields

__all__ = ["ReluNetwork"]


@pytree
class ReluNetwork(Kernel):
    """The limit of Dense, ReLU, Dense, …, ReLU, Dense in the NTK parametrisation.

    Σ¹ = w²⟨x, x'⟩/d + b², Θ¹ = Σ¹; behind each ReLU Σ ← w² E[φφ'] + b², Θ ← Σ + w² E[φ̇φ̇'] Θ.
    It is differentiable nowhere: a kernel for Gram matrices and solvers.

    Args:
        hidden: the number of hidden layers, ≥ 1.
        W_std: standard deviation of all weights, > 0.
        b_std: standard deviation of all biases, ≥ 0.
        get: "ntk" or "nngp".

    Raises:
        TypeError, ValueError: an argument of another type or out of range.
    """

    hidden: int = field(metadata={"static": True})
    W_std: float = field(default=2**0.5, metadata={"static": True})
    b_std: float = field(default=0.0, metadata={"static": True})
    get: str = field(default="ntk", metadata={"static": True})

    def __post_init__(self) -> None:
        set_fields(self, hidden=_check.integer("hidden", self.hidden, at_least=1))
        set_fields(self, W_std=_check.number("W_std", self.W_std, above=0))
        set_fields(self, b_std=_check.number("b_std", self.b_std, at_least=0))
        if self.get not in ("ntk", "nngp"):
            raise ValueError(f'get: expected "ntk" or "nngp", got {self.get!r}')

    def _gram(self, x1: Array, x2: Array) -> Array:
        gram: Array = _gram(self, x1, None if x2 is x1 else x2)
        return gram


@jax.jit
def _gram(net: ReluNetwork, x1: Array, x2: Array | None) -> Array:
    (unit1, size1), (unit2, size2) = _unit(x1), _unit(x1 if x2 is None else x2)
    size2 = size2.T
    scale1, a1, b1 = _shares(net, size1)
    scale2, a2, b2 = _shares(net, size2)
    biased = net.b_std > 0
    rho = jnp.matmul(unit1, unit2.T, precision=lax.Precision.HIGHEST)
    # Of the angle between points and, behind the first layer, between (a x̂, b) and (a' x̂', b').
    gap = _sharp(rho, unit1, unit2, x2 is None)
    negative = rho < 0
    if biased:
        rho = jnp.clip(rho, -1.0, 1.0) * a1 * a2 + b1 * b2
        close = _apart(a1, a2, b1, b2) + a1 * a2 * gap
        gap = jnp.where(negative | (rho < 0), 1 - jnp.abs(rho), close)
        gap, negative = jnp.clip(gap, 0.0, 1.0), rho < 0
    kernel = jnp.where(negative, gap - 1, 1 - gap)
    for layer in range(net.hidden):
        bulge, share = defect(gap) / jnp.pi, acute(gap) / jnp.pi
        if layer:
            behind, slope = gap - bulge, 1 - share
        else:
            behind = jnp.where(negative, 1 - bulge, gap - bulge)
            slope = jnp.where(negative, share, 1 - share)
        if biased:
            scale1, a1, b1 = _shares(net, scale1 / 2**0.5)
            scale2, a2, b2 = _shares(net, scale2 / 2**0.5)
            gap = jnp.clip(_apart(a1, a2, b1, b2) + a1 * a2 * behind, 0.0, 1.0)
            slope = slope * (a1 * a2)
        else:
            scale1, scale2 = (net.W_std / 2**0.5 * s for s in (scale1, scale2))
            gap = behind
        kernel = 1 - gap + (slope * kernel if net.get == "ntk" else 0)
    return kernel * (scale1 * scale2)


def _unit(x: Array) -> tuple[Array, Array]:
    """Unit rows, and the sizes ‖x‖/√d, shape (n, 1); 0 stays 0."""
    largest = jnp.abs(x).max(1, keepdims=True)
    x = x / jnp.where(largest > 0, largest, 1.0)
    norm = jnp.sqrt((x * x).sum(1, keepdims=True))
    return x / jnp.where(norm > 0, norm, 1.0), largest * norm / x.shape[1] ** 0.5


def _shares(net: ReluNetwork, size: Array) -> tuple[Array, Array, Array]:
    """√(w² size² + b²), and the shares of w · size and b in it."""
    weights = net.W_std * size
    scale = jnp.sqrt(weights**2 + net.b_std**2)
    safe = jnp.where(scale > 0, scale, 1.0)
    return scale, weights / safe, net.b_std / safe


def _apart(a1: Array, a2: Array, b1: Array, b2: Array) -> Array:
    """1 − cos of the angle between (a, b) and (a', b')."""
    return ((a1 - a2) ** 2 + (b1 - b2) ** 2) / 2


def _sharp(rho: Array, unit1: Array, unit2: Array, same: bool) -> Array:
    """1 − |ρ|, of near points from their difference; exactly 0 on the diagonal."""
    gap = jnp.clip(1 - jnp.abs(rho), 0.0, 1.0)
    # Rounding moves ρ by a few ε, which near 1 is much of the gap.
    small = gap < float(np.finfo(rho.dtype).eps) ** (1 / 3)
    if same:
        own = jnp.eye(len(rho), dtype=bool) & unit1.any(1)[:, None]
        gap, small = jnp.where(own, 0.0, gap), small & ~own

    def row(arguments: tuple[Array, Array, Array, Array]) -> Array:
        point, gap, small, rho = arguments
        sign = jnp.where(rho < 0, -1.0, 1.0).astype(rho.dtype)
        exact = ((point[None] - sign[:, None] * unit2) ** 2).sum(1) / 2
        return jnp.where(small, exact, gap)

    def again(gap: Array) -> Array:
        near: Array = lax.map(row, (unit1, gap, small, rho))
        return near

    sharp: Array = lax.cond(small.any(), again, lambda gap: gap, gap)
    return sharp
