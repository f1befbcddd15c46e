"""Dual activations: E[φ(u)φ(v)] for centred Gaussians u, v, in closed form.

Everywhere (u, v) ~ N(0, [[q1, c], [c, q2]]). No factor is put in front: the dual of ReLU at
q1 = q2 = c = 1 is E[relu(u)²] = 1/2. The formulas take a `Pair`, which knows the differences
q1 q2 − c² and q1 + q2 − 2c to full accuracy.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.special import erf as _erf
from jax.typing import ArrayLike

from ntklib import _check
from ntklib.angle import Pair, acute, defect, kappa0, kappa1

__all__ = [
    "Activation",
    "abs_",
    "cos",
    "erf",
    "exponential",
    "gaussian",
    "gelu",
    "identity",
    "leaky_relu",
    "piecewise_linear",
    "rbf",
    "relu",
    "scaled_erf",
    "sign",
    "sin",
    "sinusoid",
]


def number(name: str, value: ArrayLike, **limits: float) -> float:
    """A finite Python float, checked by `ntklib._check.number`."""
    return float(np.asarray(_check.number(name, value, **limits)))


class Activation(NamedTuple):
    """A function φ with the Gaussian expectations that the limits of networks need.

    Attributes:
        fn: φ itself, entry by entry.
        expectation: `Pair` ↦ E[φ(u)φ(v)].
        derivative: `Pair` ↦ E[φ'(u)φ'(v)]; where φ' exists this is ∂/∂c of the expectation.
        degree: k where φ(tx) = tᵏ φ(x) for all t > 0, else ``None``.
        turn: `Pair` ↦ chord and obtuseness (see `Angle`) of the angle between φ(u) and φ(v),
            where a closed form keeps its digits; ``None`` where φ is smooth, and the angle
            follows from the derivative.
        parity: 1 where φ(−x) = φ(x), −1 where φ(−x) = −φ(x), else 0.
        line: (s, t) ↦ E[φ(sz)φ(tz)], z ~ N(0, 1), for a smooth φ whose expectation cannot be
            differentiated four times at equal angles; ``None`` to do that.
    """

    fn: Callable[[Array], Array]
    expectation: Callable[[Pair], Array]
    derivative: Callable[[Pair], Array]
    degree: int | None = None
    turn: Callable[[Pair], tuple[Array, Array]] | None = None
    parity: int = 0
    line: Callable[[Array, Array], Array] | None = None

    def __call__(self, x: Array) -> Array:
        return self.fn(x)

    def dual(self, q1: Array, q2: Array, c: Array) -> Array:
        """E[φ(u)φ(v)] for variances q1, q2 and covariances c, arrays that broadcast."""
        return self.expectation(Pair.of(q1, q2, c))

    def dual_derivative(self, q1: Array, q2: Array, c: Array) -> Array:
        """E[φ'(u)φ'(v)] for variances q1, q2 and covariances c, arrays that broadcast."""
        return self.derivative(Pair.of(q1, q2, c))


def piecewise_linear(a: float, b: float) -> Activation:
    """φ(x) = a min(x, 0) + b max(x, 0), linear on either side of 0.

    With s = √(q1 q2) and the angle θ between u and v, E[φ(u)φ(v)] = (b − a)² s κ₁(θ)/2 + ab c
    and E[φ'(u)φ'(v)] = (b − a)² κ₀(θ)/2 + ab.

    Raises:
        TypeError, ValueError: a or b is not a finite number.
    """
    a, b = number("a", a), number("b", b)
    bend = (b - a) ** 2 / 2
    # The cosine becomes bent · κ₁ + (1 − bent) · cos θ.
    bent = 2 * bend / (a**2 + b**2) if a or b else 1.0

    def fn(x: Array) -> Array:
        return a * jnp.minimum(x, 0.0) + b * jnp.maximum(x, 0.0)

    def expectation(p: Pair) -> Array:
        return bend * p.size * kappa1(p.angle) + a * b * p.c

    def derivative(p: Pair) -> Array:
        return bend * kappa0(p.angle) + a * b

    def turn(p: Pair) -> tuple[Array, Array]:
        gap, bulge, rest = p.angle.gap, bent * defect(p.chord), 1 - bent
        # At an obtuse angle the new cosine is bulge − rest (1 − gap), a negative one or not.
        obtuse = p.obtuse & (bulge < rest * (1 - gap)) if rest > 0 else jnp.zeros_like(p.obtuse)
        opposite = 2 - bent - rest * gap - bulge
        opposite = jnp.where(obtuse, bent + rest * gap + bulge, opposite)
        return jnp.sqrt(2 * jnp.where(p.obtuse, opposite, gap - bulge)), obtuse

    return Activation(fn, expectation, derivative, 1, turn)


def leaky_relu(alpha: float) -> Activation:
    """φ(x) = max(x, 0) + alpha min(x, 0); see `piecewise_linear`."""
    return piecewise_linear(alpha, 1.0)


relu = piecewise_linear(0.0, 1.0)._replace(fn=jax.nn.relu)
abs_ = piecewise_linear(-1.0, 1.0)._replace(fn=jnp.abs)
identity = piecewise_linear(1.0, 1.0)._replace(fn=jnp.asarray)

# φ' = 0 almost everywhere, so the dual of the derivative is 0; ∂/∂c of the dual is not.
sign = Activation(
    fn=jnp.sign,
    expectation=lambda p: jnp.where(p.size > 0, 2 * kappa0(p.angle) - 1, 0.0),
    derivative=lambda p: jnp.zeros_like(p.c),
    degree=0,
    turn=lambda p: (jnp.sqrt(4 / jnp.pi * acute(p.chord)), p.obtuse),
)


def scaled_erf(a: float, b: float, c: float) -> Activation:
    """φ(x) = a erf(bx) + c.

    E[φ(u)φ(v)] = (2a²/π) arctan(2b²c₁₂/√D) + c² and E[φ'(u)φ'(v)] = 4a²b²/(π√D), with the
    covariance c₁₂ and D = (1 + 2b²q1)(1 + 2b²q2) − 4b⁴c₁₂².

    Raises:
        TypeError, ValueError: a, b or c is not a finite number.
    """
    a, b, c = number("a", a), number("b", b), number("c", c)
    s = b**2

    def root_d(p: Pair) -> Array:
        return jnp.sqrt(1 + 2 * s * (p.q1 + p.q2) + 4 * s**2 * p.det)

    return Activation(
        fn=lambda x: a * _erf(b * x) + c,
        expectation=lambda p: 2 * a**2 / jnp.pi * jnp.arctan2(2 * s * p.c, root_d(p)) + c**2,
        derivative=lambda p: 4 * a**2 * s / jnp.pi / root_d(p),
        parity=0 if c else -1,
    )


erf = scaled_erf(1.0, 1.0, 0.0)


def _gelu_terms(p: Pair) -> tuple[Array, Array, Array]:
    root_d = jnp.sqrt(1 + p.q1 + p.q2 + p.det)
    return root_d, jnp.arctan2(p.c, root_d), 1 / (1 + p.q1) + 1 / (1 + p.q2)


def _gelu_expectation(p: Pair) -> Array:
    root_d, angle, inverses = _gelu_terms(p)
    return p.c / 4 + (p.c * angle + (p.det + p.c**2 * inverses) / root_d) / (2 * jnp.pi)


def _gelu_derivative(p: Pair) -> Array:
    root_d, angle, inverses = _gelu_terms(p)
    return 0.25 + (angle + p.c / root_d * (1 / root_d**2 + inverses)) / (2 * jnp.pi)


# φ(x) = x Φ(x) with the normal distribution function Φ.
gelu = Activation(lambda x: jax.nn.gelu(x, approximate=False), _gelu_expectation, _gelu_derivative)


def sinusoid(a: float, b: float, c: float) -> Activation:
    """φ(x) = a sin(bx + c).

    E[φ(u)φ(v)] = (a²/2)(e^(−b²M/2) − cos(2c) e^(−b²P/2)) with M = E(u − v)², P = E(u + v)²,
    and E[φ'(u)φ'(v)] is b² times the same with a plus.

    Raises:
        TypeError, ValueError: a, b or c is not a finite number.
    """
    a, b, c = number("a", a), number("b", b), number("c", c)
    s = b**2

    def waves(p: Pair) -> tuple[Array, Array]:
        return jnp.exp(-s / 2 * p.minus), jnp.exp(-s / 2 * p.plus)

    def expectation(p: Pair) -> Array:
        minus, plus = waves(p)
        # The difference of the two waves, without loss where both are near 1.
        up, down = jnp.where(p.c < 0, 0.0, p.c), jnp.where(p.c < 0, p.c, 0.0)
        change = plus * jnp.expm1(2 * s * down) - minus * jnp.expm1(-2 * s * up)
        return a**2 / 2 * (change + 2 * math.sin(c) ** 2 * plus)

    def derivative(p: Pair) -> Array:
        minus, plus = waves(p)
        return a**2 * s / 2 * (minus + math.cos(2 * c) * plus)

    parity = round(-math.cos(2 * c)) if math.sin(2 * c) ** 2 < 1e-30 else 0
    return Activation(lambda x: a * jnp.sin(b * x + c), expectation, derivative, parity=parity)


sin = sinusoid(1.0, 1.0, 0.0)
cos = sinusoid(1.0, 1.0, math.pi / 2)


def rbf(gamma: float) -> Activation:
    """φ(x) = √2 sin(√(2 gamma) x + π/4), for which E[φ(u)φ(v)] = e^(−gamma E(u − v)²).

    Raises:
        TypeError, ValueError: gamma is not a number > 0.
    """
    gamma = number("gamma", gamma, above=0)

    def expectation(p: Pair) -> Array:
        return jnp.exp(-gamma * p.minus)

    return Activation(
        fn=lambda x: math.sqrt(2) * jnp.sin(math.sqrt(2 * gamma) * x + math.pi / 4),
        expectation=expectation,
        derivative=lambda p: 2 * gamma * expectation(p),
    )


def gaussian(a: float, b: float) -> Activation:
    """φ(x) = a e^(bx²) with b < 0.

    E[φ(u)φ(v)] = a²/√D with D = (1 − 2bq1)(1 − 2bq2) − 4b²c², and E[φ'(u)φ'(v)] =
    4a²b²c/D^(3/2).

    Raises:
        TypeError, ValueError: a is not a finite number or b not one below 0 (above 0 the
            expectation is infinite for large variances).
    """
    a, rate = number("a", a), -number("b", b)
    number("-b", rate, above=0)

    def d(p: Pair) -> Array:
        return 1 + 2 * rate * (p.q1 + p.q2) + 4 * rate**2 * p.det

    return Activation(
        fn=lambda x: a * jnp.exp(-rate * x**2),
        expectation=lambda p: a**2 / jnp.sqrt(d(p)),
        derivative=lambda p: 4 * (a * rate) ** 2 * p.c / (d(p) * jnp.sqrt(d(p))),
        parity=1,
    )


def exponential(a: float, b: float) -> Activation:
    """φ(x) = a e^(bx): E[φ(u)φ(v)] = a² e^(b²E(u + v)²/2), and b² times that for φ'.

    Raises:
        TypeError, ValueError: a or b is not a finite number.
    """
    a, b = number("a", a), number("b", b)

    def expectation(p: Pair) -> Array:
        return a**2 * jnp.exp(b**2 / 2 * p.plus)

    return Activation(lambda x: a * jnp.exp(b * x), expectation, lambda p: b**2 * expectation(p))
