"""Tangent kernels of infinitely wide erf and GELU networks, with few operations for an entry.

With the variances q, q' of the two points known, a hidden layer acts on the covariance c and on
Θ alone. For erf, with D = (1 + 2q)(1 + 2q') − 4c²,

    E[φφ'] = (2/π) arcsin(2c/√((1 + 2q)(1 + 2q'))),        E[φ̇φ̇'] = 4/(π √D);

for GELU, with D = (1 + q)(1 + q') − c², s = c/√((1 + q)(1 + q')) and i = 1/(1 + q) + 1/(1 + q'),

    E[φφ'] = c/4 + (c arcsin s + (qq' + c²(i − 1))/√D)/(2π),
    E[φ̇φ̇'] = ¼ + (arcsin s + (1/D + i) c/√D)/(2π).

D is computed from qq' − c², which is exactly 0 where x = x'. One arcsine, one square root and
one division a layer and pair; what depends on one point alone is computed once a row.
"""

from dataclasses import field

import jax
import jax.numpy as jnp
from jax import Array, lax

from ntklib import _check
from ntklib.arccos import arcsin
from ntklib.kernels import Kernel, pytree, set_fields

__all__ = ["SmoothNetwork"]


@pytree
class SmoothNetwork(Kernel):
    """The limit of Dense, φ, Dense, …, φ, Dense in the NTK parametrisation, φ = erf or GELU.

    Σ¹ = w²⟨x, x'⟩/d + b², Θ¹ = Σ¹; behind each φ Σ ← w² E[φφ'] + b², Θ ← Σ + w² E[φ̇φ̇'] Θ.
    A kernel for Gram matrices and solvers, accurate while the variances are moderate: points
    whose angle is near 0 lose digits as 1 + q grows.

    Args:
        activation: "erf" or "gelu".
        W_std: standard deviations of the weights, one for each layer with weights, > 0.
        b_std: the same of the biases, ≥ 0.
        get: "ntk" or "nngp".

    Raises:
        TypeError, ValueError: an argument of another type or out of range.
    """

    activation: str = field(metadata={"static": True})
    W_std: tuple[float, ...] = field(metadata={"static": True})
    b_std: tuple[float, ...] = field(metadata={"static": True})
    get: str = field(default="ntk", metadata={"static": True})

    def __post_init__(self) -> None:
        if self.activation not in ("erf", "gelu"):
            raise ValueError(f'activation: expected "erf" or "gelu", got {self.activation!r}')
        if len(self.W_std) < 2 or len(self.W_std) != len(self.b_std):
            raise ValueError(
                "W_std, b_std: expected two or more layers and as many biases as weights, got "
                f"{len(self.W_std)} and {len(self.b_std)}"
            )
        set_fields(self, W_std=tuple(_check.number("W_std", w, above=0) for w in self.W_std))
        set_fields(self, b_std=tuple(_check.number("b_std", b, at_least=0) for b in self.b_std))
        if self.get not in ("ntk", "nngp"):
            raise ValueError(f'get: expected "ntk" or "nngp", got {self.get!r}')

    def _gram(self, x1: Array, x2: Array) -> Array:
        gram: Array = _gram(self, x1, None if x2 is x1 else x2)
        return gram


@jax.jit
def _gram(net: SmoothNetwork, x1: Array, x2: Array | None) -> Array:
    dual = _erf if net.activation == "erf" else _gelu
    with_ntk, d, other = net.get == "ntk", x1.shape[1], x1 if x2 is None else x2
    w, b = net.W_std[0] ** 2, net.b_std[0] ** 2
    q1, q2 = (w * ((x * x).sum(1) / d) + b for x in (x1, other))
    c = jnp.matmul(x1, other.T, precision=lax.Precision.HIGHEST) * (w / d) + b
    if x2 is None:
        c = jnp.where(jnp.eye(len(x1), dtype=bool), q1[:, None], c)
    theta = c
    for w_std, b_std in zip(net.W_std[1:], net.b_std[1:], strict=True):
        w, b = w_std**2, b_std**2
        value, slope = dual(q1[:, None], q2[None], c)
        # The variances are the same formula at c = q.
        q1, q2 = (w * dual(q, q, q)[0] + b for q in (q1, q2))
        c = w * value + b
        theta = c + w * slope * theta if with_ntk else c
    return theta


def _erf(q1: Array, q2: Array, c: Array) -> tuple[Array, Array]:
    r = 1 / (jnp.sqrt(1 + 2 * q1) * jnp.sqrt(1 + 2 * q2))
    root = jnp.sqrt((1 + 2 * q1) + 2 * q2 + 4 * (q1 * q2 - c * c))
    return arcsin(2 * c * r) * (2 / jnp.pi), (4 / jnp.pi) / root


def _gelu(q1: Array, q2: Array, c: Array) -> tuple[Array, Array]:
    i1, i2 = 1 / (1 + q1), 1 / (1 + q2)
    angle, inverses = arcsin(c * (jnp.sqrt(i1) * jnp.sqrt(i2))), i1 + i2
    inverse = 1 / ((1 + q1) + q2 + (q1 * q2 - c * c))
    root = jnp.sqrt(inverse)
    value = c * angle + (q1 * q2 + c * c * (inverses - 1)) * root
    slope = angle + c * root * (inverse + inverses)
    return c * 0.25 + value * (0.5 / jnp.pi), 0.25 + slope * (0.5 / jnp.pi)
