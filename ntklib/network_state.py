"""What the infinitely wide network remembers between two layers.

At every layer the outputs at two inputs are, entry by entry, independent copies of one pair
(u, v). A `State` holds the law of that pair for all pairs of inputs, and the tangent kernel.
"""

from dataclasses import field, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from ntklib.angle import Pair, reciprocal, root
from ntklib.kernels import pytree

__all__ = ["State", "add", "affine", "balance", "finish", "from_points", "shift"]


@pytree
class State:
    """Covariances and tangent kernel of one layer's outputs, for points x1 and x2.

    The true covariances and tangent kernel are 4^exponent times those stored, so that depth
    lets none of them overflow or vanish.

    Attributes:
        q1, q2: variances E[u²] at x1 and E[v²] at x2, shapes (n1,) and (n2,).
        c: covariances E[uv], shape (n1, n2).
        chord, obtuse: those of the `Angle` between u and v, shape (n1, n2): exact where c
            has lost it, near equal and opposite points. They carry no derivative; that
            follows from q1, q2 and c.
        ntk: the tangent kernel Θ, shape (n1, n2).
        low: what rounding has taken from the sum that ntk is, shape (n1, n2).
        exponent: the power of 4, a whole number.
        width: how many outputs the finite layer has.
        gaussian: whether (u, v) is Gaussian, as behind a layer with weights.
        growth: the power of 2 by which the layers so far have scaled what is stored.
    """

    q1: Array
    q2: Array
    c: Array
    chord: Array
    obtuse: Array
    ntk: Array
    low: Array
    exponent: Array
    width: int = field(metadata={"static": True})
    gaussian: bool = field(default=False, metadata={"static": True})
    growth: float = field(default=0.0, metadata={"static": True})

    @property
    def pair(self) -> Pair:
        """The stored law, ready for dual activations: all arrays broadcast to (n1, n2)."""
        return Pair(self.q1[:, None], self.q2[None], self.c, self.chord, self.obtuse)

    def replace(self, **values: Any) -> "State":
        return replace(self, **values)


@jax.jit
def from_points(x1: Array, x2: Array) -> State:
    """The state of the inputs: c = ⟨x, x'⟩/d, and no tangent kernel yet."""
    d = x1.shape[1]
    # Squares overflow or vanish long before the inputs do.
    largest = lax.stop_gradient(jnp.maximum(jnp.abs(x1).max(), jnp.abs(x2).max()))
    exponent = jnp.round(jnp.log2(jnp.where(largest > 0, largest, 1.0)))
    x1, x2 = (x * power_of_2(-exponent) for x in (x1, x2))
    q1, q2 = ((x**2).sum(1) / d for x in (x1, x2))
    c = jnp.matmul(x1, x2.T, precision=lax.Precision.HIGHEST) / d
    obtuse = c < 0
    rho = Pair(q1[:, None], q2[None], c, c, obtuse).angle.rho
    chord = _chords(*(lax.stop_gradient(a) for a in (x1, x2, q1 * d, q2 * d, rho)))
    zero = jnp.zeros_like(c)
    return State(q1, q2, c, chord, obtuse, zero, zero, exponent, d)


def _chords(x1: Array, x2: Array, square1: Array, square2: Array, rho: Array) -> Array:
    """The chords of the angles between rows; small ones from differences of the rows."""
    eps = float(np.finfo(rho.dtype).eps)
    # Rounding moves a cosine by a few ε, an angle by ε over the chord.
    limit = eps ** (1 / 3)
    gap = jnp.where(rho == 0, 1.0, jnp.clip(1 - jnp.abs(rho), 0.0, 1.0))
    chord = jnp.sqrt(2 * gap)

    def sharpen(x: Array, y: Array, xx: Array, yy: Array, rho: Array, chord: Array) -> Array:
        """‖x − ty‖/‖x‖ with t = ±‖x‖/‖y‖ where the gap is small."""
        t = jnp.sqrt(xx[:, None] / yy[None])
        # So that equal rows differ by 0 also where their squares were summed in another order.
        t = jnp.where(jnp.abs(t - 1) < 16 * eps, 1.0, t) * jnp.where(rho < 0, -1.0, 1.0)
        apart = ((x[:, None] - t.astype(x.dtype)[:, :, None] * y[None]) ** 2).sum(-1)
        small = 1 - jnp.abs(rho) < limit
        return jnp.where(small, jnp.sqrt(apart / xx[:, None]), chord)

    if x1.shape[1] <= 16:
        return sharpen(x1, x2, square1, square2, rho, chord)

    # In larger dimension only in the tiles of the matrix that hold a small gap.
    (n1, n2), side = rho.shape, 8
    rows, columns = min(side, n1), min(side, n2)
    tall, wide = -(-n1 // rows), -(-n2 // columns)
    padded = jnp.pad(gap < limit, ((0, tall * rows - n1), (0, wide * columns - n2)))
    found = padded.reshape(tall, rows, wide, columns).any((1, 3)).ravel()
    (tiles,) = jnp.nonzero(found, size=tall * wide, fill_value=0)

    def redo(k: Array, chord: Array) -> Array:
        i, j = tiles[k] // wide * rows, tiles[k] % wide * columns
        left = (lax.dynamic_slice_in_dim(a, i, rows) for a in (x1, square1))
        right = (lax.dynamic_slice_in_dim(a, j, columns) for a in (x2, square2))
        tile = (lax.dynamic_slice(a, (i, j), (rows, columns)) for a in (rho, chord))
        (x, xx), (y, yy) = left, right
        return lax.dynamic_update_slice(chord, sharpen(x, y, xx, yy, *tile), (i, j))

    sharpened: Array = lax.fori_loop(0, found.sum(), redo, chord)
    return sharpened


@partial(jax.jit, static_argnums=(1, 2))
def finish(state: State, names: tuple[str, ...], same: bool) -> list[Array]:
    """The kernels of these names, "nngp" or "ntk"; of one set of points exactly symmetric."""
    unit = power_of_2(-state.exponent)
    # Divided twice, since 4^exponent may overflow where the kernel does not.
    found = [{"nngp": state.c, "ntk": state.ntk + state.low}[name] / unit / unit for name in names]
    if not same:
        return found
    # A branch, though always taken: without it XLA would evaluate k for k, and again for kᵀ.
    return [lax.cond(unit > 0, lambda k: (k + k.T) / 2, lambda k: k, k) for k in found]


def two_sum(a: Array, b: Array) -> tuple[Array, Array]:
    """a + b as rounded, and what rounding took; that carries no derivative."""
    total = a + b
    part = total - a
    return total, lax.stop_gradient((a - (total - part)) + (b - part))


def scale(state: State, factor: Array | float) -> State:
    """The state of √factor (u, v)."""
    names = ("q1", "q2", "c", "ntk", "low")
    return state.replace(**{name: factor * getattr(state, name) for name in names})


def shift(state: State, powers: Array | float) -> State:
    """The same state, its exponent raised by so many powers."""
    factor = power_of_2(-powers + jnp.zeros_like(state.exponent))
    # Twice, since the square of the factor may overflow where the product does not.
    return scale(scale(state, factor), factor).replace(exponent=state.exponent + powers)


def balance(state: State) -> State:
    """The same state; if what is stored has grown or shrunk much, with another exponent."""
    powers = round(state.growth / 2) if abs(state.growth) > 20 else 0
    return shift(state, powers).replace(growth=state.growth - 2 * powers) if powers else state


def power_of_2(exponent: Array) -> Array:
    """2^exponent for whole exponents, exactly; past the floats' range the last one in it."""
    info = np.finfo(exponent.dtype)
    exponent = jnp.clip(exponent, info.minexp, info.maxexp - 1)
    power: Array = lax.reduce_precision(jnp.exp2(exponent), info.nexp, 0)
    return power


def affine(
    state: State, weight: float, learned: float, bias: float | None, bias_learned: float
) -> State:
    """The state behind random weights and biases.

    Args:
        state: that of the inputs, with covariance K and tangent kernel Θ.
        weight: the factor of K, and of Θ.
        learned: the factor with which K enters Θ, through the weights.
        bias: the variance of the biases; ``None`` for no bias.
        bias_learned: what the biases add to Θ.
    """
    # Compiled once for all widths.
    behind: State = _affine(state.replace(width=0), weight, learned, bias, bias_learned)
    return behind.replace(width=state.width)


@jax.jit
def _affine(
    state: State, weight: float, learned: float, bias: float | None, bias_learned: float
) -> State:
    before = state
    state = scale(state, weight)
    ntk, lost = two_sum(state.ntk, learned * before.c)
    state = state.replace(ntk=ntk, low=state.low + lost)
    if bias is None:
        return state
    same = State(
        q1=jnp.full_like(state.q1, bias),
        q2=jnp.full_like(state.q2, bias),
        c=jnp.full_like(state.c, bias),
        chord=jnp.zeros_like(state.chord),
        obtuse=jnp.zeros_like(state.obtuse),
        ntk=jnp.full_like(state.c, bias_learned),
        low=jnp.zeros_like(state.c),
        exponent=jnp.zeros_like(state.exponent),
        width=state.width,
    )
    total: State = _add(state, same)
    return total


def add(a: State, b: State) -> State:
    """The state of the sum of two independent centred pairs.

    With the shares w = √(q_a/q) and z = √(q_b/q) of either point and their products ww', zz',
    1 − ρ² = (ww')² (1 − ρ_a²) + (zz')² (1 − ρ_b²) + (wz' − zw')² + 2 ww' zz' (1 − ρ_a ρ_b):
    terms ≥ 0, so nothing cancels.
    """
    growth = max(a.growth, b.growth)
    total: State = _add(a.replace(growth=0.0), b.replace(growth=0.0))
    return total.replace(growth=growth)


@jax.jit
def _add(a: State, b: State) -> State:
    exponent = jnp.maximum(a.exponent, b.exponent)
    a, b = shift(a, exponent - a.exponent), shift(b, exponent - b.exponent)
    ntk, lost = two_sum(a.ntk, b.ntk)
    total = a.replace(
        q1=a.q1 + b.q1, q2=a.q2 + b.q2, c=a.c + b.c, ntk=ntk, low=a.low + b.low + lost
    )
    w1, w2, z1, z2 = (
        root(part) * reciprocal(root(whole))
        for part, whole in ((a.q1, total.q1), (a.q2, total.q2), (b.q1, total.q1), (b.q2, total.q2))
    )
    ww, zz = w1[:, None] * w2[None], z1[:, None] * z2[None]
    # w z' − z w', as 0 at equal points also where XLA rounds one of two products only.
    turned = w1[:, None] * (z2[None] - z1[:, None]) - z1[:, None] * (w2[None] - w1[:, None])
    gap_a, gap_b = a.pair.angle.gap, b.pair.angle.gap
    alike = gap_a + gap_b - gap_a * gap_b
    differ = jnp.where(a.obtuse == b.obtuse, alike, 1 + (1 - gap_a) * (1 - gap_b))
    square = (
        ww**2 * (gap_a * (2 - gap_a))
        + zz**2 * (gap_b * (2 - gap_b))
        + turned**2
        + 2 * ww * zz * differ
    )
    pair = total.pair
    gap = jnp.where(pair.size > 0, square / (1 + jnp.abs(pair.angle.rho)), 1.0)
    return total.replace(
        chord=lax.stop_gradient(jnp.sqrt(2 * jnp.minimum(gap, 1.0))),
        obtuse=(a.obtuse | b.obtuse) & (total.c < 0),
        gaussian=a.gaussian and b.gaussian,
    )
