"""The tangent kernel of any parametrised function.

A network is a function ``apply(params, x)``: params any pytree of float arrays, x a batch of
points, shape (n, ...), the result shape (n, m), or (n,) for one output without an axis. It
treats each point apart, so that a batch of one is as good as any.
"""

import functools
import math
from dataclasses import field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.extend.core import Jaxpr, subjaxprs
from jax.typing import ArrayLike

from ntklib import _check, _work
from ntklib.expansion import Apply, linearize, network, taylor
from ntklib.kernels import Kernel, pytree, set_fields
from ntklib.structured import Factors, factors, products

__all__ = ["Tangent", "linearize", "tangent_kernel", "taylor"]

OUTPUTS = ("full", "trace", "diagonal")

ROWS, PARTS = 32, 8
"""A full symmetric matrix is computed in bands right of the diagonal and mirrored: how high a
band is at least, and how many there are at most."""


@pytree
class Tangent(Kernel):
    """Θ(x, x') = Σ_p ∂_p f(x) ⊗ ∂_p f(x'), over all parameters p; made by `tangent_kernel`.

    Points may have any shape that apply takes: x1 and x2 are of shape (n, ...).
    """

    params: Any
    apply: Apply = field(metadata={"static": True})
    outputs: str = field(metadata={"static": True}, default="full")
    memory: int = field(metadata={"static": True}, default=2**30)

    def __post_init__(self) -> None:
        set_fields(self, params=network(self.apply, self.params))
        if self.outputs not in OUTPUTS:
            raise ValueError(f"outputs: expected one of {', '.join(OUTPUTS)}, got {self.outputs!r}")
        set_fields(self, memory=_check.integer("memory", self.memory, at_least=1))

    def __call__(self, x1: ArrayLike, x2: ArrayLike | None = None) -> Array:
        return self._gram(*self._batches(x1, x2))

    def matvec(self, v: ArrayLike, x1: ArrayLike, x2: ArrayLike | None = None) -> Array:
        """Θ(x1, x2) v without the matrix: one derivative backward, and one forward.

        Args:
            v: shape (n2, m); for the trace, or where apply returns (n,), shape (n2,).
            x1: points, shape (n1, ...).
            x2: points, shape (n2, ...); ``None`` means x1.

        Returns:
            Shape (n1, m) or (n1,), as v. For the diagonal Σⱼ Θ_aa(xᵢ, xⱼ) v_ja.

        Raises:
            TypeError, ValueError: wrong dtype or shape, NaN or infinite entries.
        """
        first, second = self._batches(x1, x2)
        v = _check.floats("v", v)
        _check.same_dtype(v=v, x1=first)
        plan = _plan(self, first)
        _check.shape("v", v, (len(second), *(() if plan.mode == "trace" else plan.outputs)))
        rows = max(1, self.memory // plan.row)
        parts = [_pull(plan.mode, self, v[t], second[t]) for t in _work.tiles(len(second), rows)]
        gradient = functools.reduce(functools.partial(jax.tree.map, jnp.add), parts)
        pushed = [_push(plan.mode, self, gradient, first[t]) for t in _work.tiles(len(first), rows)]
        return jnp.concatenate(pushed)

    def _batches(self, x1: ArrayLike, x2: ArrayLike | None) -> tuple[Array, Array]:
        first = _batch("x1", x1)
        _check.same_dtype(x1=first, params=jax.tree.leaves(self.params)[0])
        if x2 is None:
            return first, first
        second = _batch("x2", x2)
        _check.same_dtype(x1=first, x2=second)
        _check.shape("x2", second, (len(second), *first.shape[1:]))
        return first, second

    def _gram(self, x1: Array, x2: Array) -> Array:
        symmetric, n1, n2 = x1 is x2, len(x1), len(x2)
        plan = _plan(self, x1)
        tile = functools.partial(_tile, plan.mode, self)
        entry, row = 3 * math.prod(plan.shape) * x1.dtype.itemsize, plan.row
        # The most rows for which 2 row · rows + entry · rows² stays within the memory.
        rows = max(1, int((math.sqrt(row**2 + entry * self.memory) - row) / entry))
        if max(n1, n2) <= rows:
            whole: Array = tile(x1, None if symmetric else x2)
            return whole
        gram = jnp.zeros((n1, n2, *plan.shape), x1.dtype)
        for i in _work.tiles(n1, rows):
            for j in _work.tiles(n2, rows):
                if symmetric and j.start < i.start:
                    continue
                block = tile(x1[i], None if symmetric and i == j else x2[j])
                gram = _put(gram, block, i.start, j.start)
                if symmetric and i != j:
                    gram = _put(gram, _mirrored(block), j.start, i.start)
        return gram


def tangent_kernel(
    apply: Apply, params: Any, *, outputs: str = "full", memory: int = 2**30
) -> Tangent:
    """The tangent kernel Θ(x, x') = Σ_p ∂_p f(x) ⊗ ∂_p f(x') of f = apply(params, ·).

    Dense layers are contracted without forming their Jacobian (`ntklib.structured`).

    Args:
        apply: the network, ``apply(params, x)``: x of shape (n, ...), result (n, m) or (n,).
        params: any pytree of arrays, float32 or float64.
        outputs: ``"full"``, a kernel of shape (n1, n2, m, m), or (n1, n2) where apply returns
            (n,); ``"trace"``, (1/m) Σ_a Θ_aa, shape (n1, n2); ``"diagonal"``, the Θ_aa alone,
            shape (n1, n2, m), or (n1, n2) where apply returns (n,).
        memory: about how many bytes to work in, beside the parameters and the matrix itself.
            Where all points do not fit, the matrix is computed in blocks; one point with
            another is the least.

    Returns:
        The kernel, a function ``k(x1, x2=None)`` of points of any shape (n, ...), with a
        method ``matvec(v, x1, x2=None)`` that never forms the matrix.

    Raises:
        TypeError: apply is no function, params hold other than floats of one dtype, or memory
            is no integer.
        ValueError: outputs is none of the three, params hold NaN or infinite entries, or
            memory < 1.
    """
    return Tangent(params, apply, outputs, memory)


def _batch(name: str, x: ArrayLike) -> Array:
    array = _check.floats(name, x)
    if array.ndim < 2 or array.size == 0:
        raise ValueError(f"{name}: expected shape (n, d) or (n, ...), no axis 0, got {array.shape}")
    return array


@functools.partial(jax.jit, static_argnums=0)
def _tile(mode: str, kernel: Tangent, x1: Array, x2: Array | None) -> Array:
    """The matrix between two batches; ``None`` is x1, and then symmetric to the last bit."""
    left = _factors(kernel, x1)
    if x2 is not None:
        return products(mode, left, _factors(kernel, x2))
    n = len(x1)
    gram = jnp.zeros((n, n, *_plan(kernel, x1).shape), x1.dtype)
    for band in _work.tiles(n, max(ROWS, -(-n // PARTS)) if mode == "full" else n):
        right = [(g[band.start :], a[band.start :]) for g, a in left]
        block = products(mode, [(g[band], a[band]) for g, a in left], right)
        corner, beside = jnp.split(block, [band.stop - band.start], axis=1)
        gram = gram.at[band, band].set((corner + _mirrored(corner)) / 2)
        gram = gram.at[band, band.stop :].set(beside)
        gram = gram.at[band.stop :, band].set(_mirrored(beside))
    return gram


def _factors(kernel: Tangent, x: Array) -> Factors:
    def one(params: Any, point: Array) -> Array:
        return kernel.apply(params, point[None]).reshape(-1)

    return factors(one, kernel.params, x)


def _put(gram: Array, block: Array, i: int, j: int) -> Array:
    # In place, unless JAX is recording: then buffers are not ours to give away.
    put = _update if isinstance(block, jax.core.Tracer) else _update_in_place
    return put(gram, block, i, j)


def _update(gram: Array, block: Array, i: int, j: int) -> Array:
    return jax.lax.dynamic_update_slice(gram, block, (i, j, *[0] * (gram.ndim - 2)))


_update_in_place = jax.jit(_update, donate_argnums=0)


def _mirrored(block: Array) -> Array:
    """The block across the diagonal, Θ(x', x)_ba = Θ(x, x')_ab."""
    axes = (1, 0, 3, 2) if block.ndim == 4 else (1, 0, *range(2, block.ndim))
    return block.transpose(axes)


@functools.partial(jax.jit, static_argnums=0)
def _pull(mode: str, kernel: Tangent, v: Array, x: Array) -> Any:
    """Σⱼ vⱼ ∂f(xⱼ)/∂θ as a pytree like params: of all outputs, or of each one apart."""
    out, pull = jax.vjp(lambda p: kernel.apply(p, x).reshape(len(x), -1), kernel.params)
    apart = jnp.eye(out.shape[1], dtype=out.dtype)[:, None]
    directions = {
        "full": lambda: v[None],
        "diagonal": lambda: apart * v[None],
        "trace": lambda: apart * v[None, :, None],
    }[mode]()
    return jax.vmap(lambda cotangent: pull(cotangent)[0])(directions)


@functools.partial(jax.jit, static_argnums=0)
def _push(mode: str, kernel: Tangent, gradient: Any, x: Array) -> Array:
    """∂f(x)/∂θ times what `_pull` found: shape (n, m), or (n,) for the trace."""

    def forward(step: Any) -> Array:
        def f(p: Any) -> Array:
            return kernel.apply(p, x).reshape(len(x), -1)

        return jnp.asarray(jax.jvp(f, (kernel.params,), (step,))[1])

    pushed = jax.vmap(forward)(gradient)
    own = jnp.asarray(pushed[0] if mode == "full" else jnp.diagonal(pushed, axis1=0, axis2=2))
    return own.mean(axis=1) if mode == "trace" else own


class _Plan(NamedTuple):
    """What is known of a network before it runs.

    Attributes:
        outputs: the shape of f at one point, () or (m,).
        mode: the outputs wanted; with a single output without axis, its own "trace".
        shape: of one entry of the kernel, (), (m,) or (m, m).
        row: bytes of working memory for one point.
    """

    outputs: tuple[int, ...]
    mode: str
    shape: tuple[int, ...]
    row: int


def _plan(kernel: Tangent, x: Array) -> _Plan:
    struct: Any = jax.ShapeDtypeStruct
    leaves, form = jax.tree.flatten(kernel)
    shapes = [struct(leaf.shape, leaf.dtype) for leaf in leaves]
    batches = [struct((n, *x.shape[1:]), x.dtype) for n in (1, 2)]
    return _planned(form, tuple(shapes), tuple(batches))


@functools.lru_cache(maxsize=128)
def _planned(form: Any, leaves: Any, batches: Any) -> _Plan:
    kernel: Tangent = jax.tree.unflatten(form, leaves)
    one, two = batches
    out = jax.eval_shape(kernel.apply, kernel.params, two)
    if out.ndim not in (1, 2) or len(out) != 2 or out.size == 0:
        raise ValueError(
            f"apply(params, x): expected shape (n, m) or (n,) for n points, got {out.shape} for 2"
        )
    groups = jax.eval_shape(_factors, kernel, one)
    factor = sum(g.size + a.size for g, a in groups) * out.dtype.itemsize
    # What one point more costs the forward pass is what depends on the points.
    made = [_bytes(jax.make_jaxpr(kernel.apply)(kernel.params, x).jaxpr) for x in (one, two)]
    m = math.prod(out.shape[1:])
    mode = kernel.outputs if out.ndim == 2 else "trace"
    shape = out.shape[1:] * ("trace", "diagonal", "full").index(mode)
    return _Plan(out.shape[1:], mode, shape, 2 * factor + (m + 1) * (made[1] - made[0]))


def _bytes(jaxpr: Jaxpr) -> int:
    """The size of all that a recorded computation makes."""
    made: list[Any] = [v.aval for eqn in jaxpr.eqns for v in eqn.outvars]
    own: int = sum(math.prod(aval.shape) * aval.dtype.itemsize for aval in made)
    return own + sum(map(_bytes, subjaxprs(jaxpr)))
