"""Dual activations of any function, by quadrature.

A smooth φ is expanded in Hermite polynomials, of which few are needed; a φ with kinks is
integrated piece by piece between them.
"""

import math
from collections.abc import Callable, Sequence
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from ntklib import _check
from ntklib.angle import Pair, reciprocal, root, sharp
from ntklib.dual_activations import Activation, number

__all__ = ["numerical"]

Function = Callable[[Array], Array]


def numerical(
    fn: Function,
    derivative: Function | None = None,
    *,
    kinks: Sequence[float] = (),
    degree: int = 256,
) -> Activation:
    """The activation of any function φ, its expectations by quadrature.

    Without kinks E[φ(u)φ(v)] = Σₖ aₖ(q1) aₖ(q2) ρᵏ with the cosine ρ and the Hermite
    coefficients aₖ(q) of z ↦ φ(√q z), z ~ N(0, 1). The last one takes whatever the others leave of
    E φ(u)², so that the variance is right. For analytic φ they fall fast; more are needed
    where q is large.

    With kinks the plane of (u, v) is cut where u or v passes one, and `degree` plays no part.
    This costs some 10⁴ values of φ for every pair.

    Args:
        fn: φ, on arrays of any shape, entry by entry.
        derivative: φ'; ``None`` for automatic differentiation.
        kinks: the points where φ or φ' jumps.
        degree: how many Hermite coefficients, ≥ 2.

    Raises:
        TypeError, ValueError: fn is no function, a kink no finite number, degree < 2.
    """
    if not callable(fn):
        raise TypeError(f"fn: expected a function, got {fn!r}")
    degree = _check.integer("degree", degree, at_least=2)
    edges = sorted({number("kinks", k) for k in kinks})
    slope = derivative or (lambda x: jax.jvp(fn, (x,), (jnp.ones_like(x),))[1])
    if edges:
        return _split(fn, slope, edges)

    def line(s: Array, t: Array) -> Array:
        z, weights = (jnp.asarray(a, s.dtype) for a in (_NODES, _WEIGHTS))
        return jnp.tensordot(fn(_spread(s, z)) * fn(_spread(t, z)), weights, 1)

    return Activation(
        fn,
        expectation=partial(_hermite_sum, fn, degree),
        derivative=partial(_hermite_sum, slope, degree),
        parity=_parity(fn),
        line=line,
    )


def _parity(fn: Function) -> int:
    """1 for an even function, −1 for an odd one, else 0; seen at ten points."""
    with jax.ensure_compile_time_eval():
        x = jnp.linspace(0.1, 3.7, 10)
        right, left = np.asarray(fn(x)), np.asarray(fn(-x))
    return int((left == right).all()) - int((left == -right).all())


# The trapezoidal rule: for analytic functions no rule of as many nodes does better.
_NODES = np.linspace(-12.0, 12.0, 481)
_WEIGHTS = np.exp(-(_NODES**2) / 2) * (_NODES[1] - _NODES[0]) / math.sqrt(2 * math.pi)


@cache
def _hermite_rule(degree: int) -> np.ndarray:
    """Weights times normalised Hermite polynomials at the nodes, shape (nodes, degree)."""
    rows = [_WEIGHTS, _NODES * _WEIGHTS]
    for k in range(1, degree - 1):
        rows.append((_NODES * rows[k] - math.sqrt(k) * rows[k - 1]) / math.sqrt(k + 1))
    return np.stack(rows[:degree], 1)


def _coefficients(fn: Function, degree: int, q: Array) -> Array:
    """The aₖ(q), shape (degree, *q.shape)."""
    z, weights = jnp.asarray(_NODES, q.dtype), jnp.asarray(_WEIGHTS, q.dtype)
    values = fn(_spread(root(q), z))
    a = jnp.moveaxis(jnp.tensordot(values, jnp.asarray(_hermite_rule(degree), q.dtype), 1), -1, 0)
    left = jnp.tensordot(values**2, weights, 1) - (a[:-1] ** 2).sum(0)
    last = lax.stop_gradient(jnp.sqrt(jnp.maximum(left, 0.0)))
    return a.at[-1].set(last)


def _spread(s: Array, z: Array) -> Array:
    return s[..., None] * z.reshape((1,) * s.ndim + z.shape)


def _hermite_sum(fn: Function, degree: int, p: Pair) -> Array:
    """Σₖ aₖ(q1) aₖ(q2) ρᵏ."""
    a, b = _coefficients(fn, degree, p.q1), _coefficients(fn, degree, p.q2)
    angle = p.angle
    rho = sharp(jnp.where(angle.obtuse, angle.gap - 1, 1 - angle.gap), angle.rho)

    def horner(total: Array, ab: tuple[Array, Array]) -> tuple[Array, None]:
        return total * rho + ab[0] * ab[1], None

    total: Array = lax.scan(horner, jnp.zeros_like(rho), (a, b), reverse=True, unroll=8)[0]
    return total


# Gauss–Legendre on each piece; the tail of N(0, 1) beyond 9 is 1e-19.
_LEGENDRE = np.polynomial.legendre.leggauss(64)
_EDGE = 9.0


def _pieces(f: Function, breaks: Array) -> Array:
    """E f(z), z ~ N(0, 1), by a rule between each two breaks; f on arrays of shape (n,)."""
    x, w = (jnp.asarray(a, breaks.dtype)[None] for a in _LEGENDRE)
    ends = jnp.full(1, _EDGE, breaks.dtype)
    ends = jnp.concatenate([-ends, jnp.sort(jnp.clip(breaks, -_EDGE, _EDGE)), ends])
    half, middle = (jnp.diff(ends) / 2)[:, None], ((ends[1:] + ends[:-1]) / 2)[:, None]
    z = middle + half * x
    density = jnp.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    return jnp.vdot(half * w * density, f(z.ravel()))


def _split(fn: Function, slope: Function, edges: list[float]) -> Activation:
    """The activation of a φ with kinks."""

    def mean(f: Callable[[Array, Array], Array], p: Pair) -> Array:
        """E f(u, v), for u = √q1 (αx + βy) and v = ±√q2 (αx − βy) with x, y ~ N(0, 1)."""

        def one(args: tuple[Array, Array, Array, Array]) -> Array:
            s1, s2, sign, beta = args
            alpha = jnp.sqrt(1 - beta**2)
            kinks = jnp.asarray(edges, beta.dtype)
            first, second = kinks * reciprocal(s1), sign * kinks * reciprocal(s2)

            def over_x(y: Array) -> Array:
                def value(x: Array) -> Array:
                    return f(s1 * (alpha * x + beta * y), sign * s2 * (alpha * x - beta * y))

                breaks = jnp.concatenate([first - beta * y, second + beta * y]) / alpha
                return _pieces(value, breaks)

            # Where two breaks meet, the integral over x has a kink in y.
            crossings = (first[:, None] - second[None]).ravel() / 2 * reciprocal(beta)
            return _pieces(jax.vmap(over_x), crossings)

        beta = sharp(p.chord / 2, root((1 - jnp.abs(p.angle.rho)) / 2))
        sign = jnp.where(p.obtuse, -1.0, 1.0).astype(p.c.dtype)
        full = jnp.broadcast_arrays(root(p.q1), root(p.q2), sign, beta)
        flat = lax.map(one, tuple(a.ravel() for a in full), batch_size=64)
        values: Array = flat.reshape(full[0].shape)
        return values

    def derivative(p: Pair) -> Array:
        return mean(lambda u, v: slope(u) * slope(v), p)

    @jax.custom_jvp
    def expectation(p: Pair) -> Array:
        return mean(lambda u, v: fn(u) * fn(v), p)

    @expectation.defjvp
    def _(point: tuple[Pair], tangent: tuple[Pair]) -> tuple[Array, Array]:
        (p,), (t,) = point, tangent
        d = derivative(p)
        by_q1 = (mean(lambda u, v: u * slope(u) * fn(v), p) - p.c * d) * reciprocal(2 * p.q1)
        by_q2 = (mean(lambda u, v: fn(u) * v * slope(v), p) - p.c * d) * reciprocal(2 * p.q2)
        return expectation(p), d * t.c + by_q1 * t.q1 + by_q2 * t.q2

    def turn(p: Pair) -> tuple[Array, Array]:
        # √(q1 q2) − c is half of E(φ(u) − φ(v))² − (√q1 − √q2)².
        apart = mean(lambda u, v: (fn(u) - fn(v)) ** 2, p)
        n1, n2 = (root(expectation(Pair.equal(q))) for q in (p.q1, p.q2))
        size, c = n1 * n2, expectation(p)
        left = jnp.where(c < 0, size + c, (apart - (n1 - n2) ** 2) / 2)
        gap = jnp.where(size > 0, left * reciprocal(size), 1.0)
        return jnp.sqrt(2 * jnp.clip(gap, 0.0, 1.0)), c < 0

    return Activation(fn, expectation, derivative, turn=turn)
