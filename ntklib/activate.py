"""An activation's step in the recursion of covariances and tangent kernel."""

import math
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from ntklib.angle import Pair, reciprocal, root, sharp
from ntklib.dual_activations import Activation
from ntklib.network_state import State, shift

__all__ = ["activate"]


def activate(activation: Activation, state: State) -> State:
    """The state of (φ(u), φ(v)): c becomes E[φ(u)φ(v)], and Θ becomes E[φ'(u)φ'(v)] Θ.

    Raises:
        ValueError: (u, v) is not Gaussian.
    """
    if not state.gaussian:
        raise ValueError("expected a layer with random weights before every activation")
    k = activation.degree
    growth = k * state.growth + math.log2(_norm(activation)) if k else 0.0
    # Compiled once for all widths and depths.
    behind: State = _activate(activation, state.replace(growth=0.0, width=0))
    return behind.replace(growth=growth, width=state.width)


@partial(jax.jit, static_argnums=0)
def _activate(activation: Activation, state: State) -> State:
    k = activation.degree
    state = shift(state, -state.exponent) if k is None else state
    q1, q2 = (activation.expectation(Pair.equal(q)) for q in (state.q1, state.q2))
    pair = state.pair
    c = activation.expectation(pair)
    if activation.turn is None:
        c, chord, obtuse = _smooth(activation, pair, q1, q2, c)
    else:
        chord, obtuse = activation.turn(pair)
    slope = activation.derivative(pair)
    return state.replace(
        q1=q1,
        q2=q2,
        c=c,
        chord=lax.stop_gradient(chord),
        obtuse=obtuse,
        ntk=slope * state.ntk,
        low=slope * state.low,
        exponent=state.exponent * (k or 0),
        gaussian=False,
    )


def _norm(activation: Activation) -> float:
    """E φ(z)² of a homogeneous φ, z ~ N(0, 1); 1 if it is 0."""
    with jax.ensure_compile_time_eval():
        square = float(activation.expectation(Pair.equal(jnp.ones(()))))
    return square or 1.0


def _smooth(
    activation: Activation, pair: Pair, q1: Array, q2: Array, c: Array
) -> tuple[Array, Array, Array]:
    """Covariance and angle behind a smooth φ, where 1 − |c|/√(q1 q2) would cancel.

    There √(q1 q2) − c is the sum of two small terms. At the angle 0 between u and v, where
    u = sz and v = tz with z ~ N(0, 1), it is half of E(φ(u) − φ(v))² − (√q1 − √q2)², which
    is expanded in s − t. From there to the true angle it grows by the integral of
    E[φ'(u)φ'(v)] over the covariance.
    """
    pair, q1, q2 = lax.stop_gradient((pair, q1, q2))
    size = root(q1)[:, None] * root(q2)[None]
    plain = jnp.where(size > 0, 1 - jnp.abs(c) * reciprocal(size), 1.0)
    plain = lax.stop_gradient(jnp.clip(plain, 0.0, 1.0))

    gap, acute = pair.angle.gap, jnp.zeros_like(pair.obtuse)
    middle = Pair(pair.q1, pair.q2, pair.size * (1 - gap / 2), pair.chord / math.sqrt(2), acute)
    fine = pair.size * gap * activation.derivative(middle)
    step = root(pair.q1) - root(pair.q2)
    if activation.degree is None:
        (v1, w1), (v2, w2) = (_slopes(activation, root(q)) for q in (pair.q1[:, 0], pair.q2[0]))
        v, w = v1[:, None] + v2[None], w1[:, None] + w2[None]
        norms = root(q1)[:, None] - root(q2)[None]
        fine = fine + (step**2 * (v - step**2 * w) / 2 - norms**2) / 2

    limit = float(np.finfo(c.dtype).eps) ** (1 / 3)
    close = (plain < limit) & (gap < limit)
    close = close if activation.parity else close & ~pair.obtuse
    close = close & (step**2 < limit * pair.size) if activation.degree is None else close
    gap = jnp.where(close, jnp.maximum(fine, 0.0) * reciprocal(size), plain)
    c = sharp(jnp.where(close, jnp.sign(c) * size * (1 - gap), c), c)
    return c, jnp.sqrt(2 * gap), c < 0


def _slopes(activation: Activation, s: Array) -> tuple[Array, Array]:
    """v and w in E(φ(sz) − φ(tz))² = (s − t)² (v − (s − t)² w), each averaged over s and t.

    With M(s, t) = E[φ'(sz)φ'(tz)z²], integrated over the square between s and t,
    v = M and w = M_ss/6 + M_st/4.
    """

    def mean(s: Array, t: Array) -> Array:
        if activation.line is not None:
            return activation.line(s, t)
        zero = jnp.zeros_like(s)
        return activation.expectation(Pair(s**2, t**2, s * t, zero, jnp.zeros_like(s, bool)))

    def by_first(f: Callable[[Array, Array], Array]) -> Callable[[Array, Array], Array]:
        return lambda s, t: jax.jvp(lambda s: f(s, t), (s,), (jnp.ones_like(s),))[1]

    def by_second(f: Callable[[Array, Array], Array]) -> Callable[[Array, Array], Array]:
        return lambda s, t: jax.jvp(lambda t: f(s, t), (t,), (jnp.ones_like(t),))[1]

    m = by_first(by_second(mean))
    m_s = by_first(m)
    return m(s, s), by_first(m_s)(s, s) / 6 + by_second(m_s)(s, s) / 4
