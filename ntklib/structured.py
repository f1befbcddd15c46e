"""The Jacobian of a network as factors: what a dense layer learns from is an outer product.

Where a weight W enters as z = h W, once, the derivative of output a at example i is the outer
product of the layer's input hᵢ and of the derivative gᵢₐ of that output by z. Inner products
of outer products need only their factors, ⟨hᵢ ⊗ gᵢₐ, hⱼ ⊗ gⱼ_b⟩ = ⟨hᵢ, hⱼ⟩ ⟨gᵢₐ, gⱼ_b⟩, so that the
tangent kernel is Σ_l (A_l A_lᵀ) ∘ (G_l G_lᵀ) and no Jacobian is formed (:cite:t:`novak2022`).

The factors are read off the backward pass, as JAX records it: there the derivative by a
weight is a product with nothing to sum over, which later operations only move and scale. A
parameter used in any other way (twice, at many positions, in a convolution) has its
derivative itself for a factor, beside the other factor 1.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, jaxpr_as_fun

__all__ = ["factors", "products"]

Factors = list[tuple[Array, Array]]

MOVES = {"copy", "reshape", "transpose", "squeeze", "expand_dims", "broadcast_in_dim", "reduce_sum"}


class _Node(NamedTuple):
    """A value met on the way; if it depends on the cotangent, it is scale · origin ⊗ side.

    Equality is up to the order of the entries, which is the same for all examples.
    """

    value: Any
    linear: bool
    origin: Any
    scale: Any = 1.0
    side: Any = None


def factors(f: Callable[[Any, Array], Array], params: Any, x: Array) -> Factors:
    """The Jacobians of f(params, xᵢ) by the parameters, as groups of factors.

    Args:
        f: a function of the parameters and of one example, of shape (m,).
        params: any pytree of float arrays.
        x: the examples, shape (n, ...).

    Returns:
        Pairs (G, A) of shapes (n, m, p) and (n, q). The derivatives of output a at example i
        by all parameters are the entries of Gᵢₐ ⊗ Aᵢ, over all pairs, in some order.
    """

    def at(point: Array) -> tuple[list[Array], list[Array]]:
        out, pull = jax.vjp(lambda p: f(p, point), params)
        identity = jnp.eye(len(out), dtype=out.dtype)
        backward = jax.make_jaxpr(pull)(identity[0])

        def of_one_output(cotangent: Array) -> tuple[list[Array], list[Array]]:
            constants = [_origin(c, False) for c in backward.consts]
            leaves = _evaluate(backward.jaxpr, [*constants, _origin(cotangent, True)])
            origins: dict[int, Array] = {}
            sides: dict[int, list[Array]] = {}
            for leaf in leaves:
                if not leaf.linear:  # the network does not depend on it
                    leaf = _origin(jnp.zeros(1, out.dtype), True)
                side = jnp.ones(1, out.dtype) if leaf.side is None else leaf.side.reshape(-1)
                origins[id(leaf.origin)] = leaf.origin.reshape(-1)
                sides.setdefault(id(leaf.origin), []).append(leaf.scale * side)
            return list(origins.values()), [jnp.concatenate(s) for s in sides.values()]

        return jax.vmap(of_one_output, out_axes=(0, None))(identity)

    return list(zip(*jax.vmap(at)(x), strict=True))


def products(mode: str, left: Factors, right: Factors) -> Array:
    """Σ (A Aᵀ) ∘ (G Gᵀ) over the groups of factors: the tangent kernel between two batches.

    Args:
        mode: ``"full"``, ``"trace"`` or ``"diagonal"``, as in `ntklib.tangent`.
        left: the factors of n1 examples.
        right: the factors of n2 examples.

    Returns:
        Shape (n1, n2, m, m), (n1, n2) or (n1, n2, m).
    """
    total: Any = 0.0
    for (g1, a1), (g2, a2) in zip(left, right, strict=True):
        (n1, m, _), n2 = g1.shape, len(g2)
        if mode == "full":
            back = _times(g1.reshape(n1 * m, -1), g2.reshape(n2 * m, -1)).reshape(n1, m, n2, m)
            total += back * _times(a1, a2)[:, None, :, None]
        elif mode == "trace":
            total += _times(g1.reshape(n1, -1), g2.reshape(n2, -1)) / m * _times(a1, a2)
        else:
            back = jax.vmap(_times, in_axes=1, out_axes=2)(g1, g2)
            total += back * _times(a1, a2)[:, :, None]
    return jnp.asarray(total.transpose(0, 2, 1, 3) if mode == "full" else total)


def _times(left: Array, right: Array) -> Array:
    """left rightᵀ; GPUs would round float32 to fewer bits by default."""
    return jnp.matmul(left, right.T, precision=jax.lax.Precision.HIGHEST)


def _origin(value: Any, linear: bool) -> _Node:
    return _Node(value, linear, value)


def _evaluate(jaxpr: Jaxpr, nodes: list[_Node]) -> list[_Node]:
    """Run a recorded computation, and follow the products in it."""
    known = dict(zip([*jaxpr.constvars, *jaxpr.invars], nodes, strict=True))

    def read(v: Any) -> _Node:
        return _origin(v.val, False) if isinstance(v, Literal) else known[v]

    for eqn in jaxpr.eqns:
        inputs = [read(v) for v in eqn.invars]
        if eqn.primitive.name in ("jit", "pjit"):
            inner = eqn.params["jaxpr"]
            constants = [_origin(c, False) for c in inner.consts]
            outputs = _evaluate(inner.jaxpr, constants + inputs)
        else:
            outputs = _apply(jaxpr, eqn, inputs)
        known.update(zip(eqn.outvars, outputs, strict=True))
    return [read(v) for v in jaxpr.outvars]


def _apply(jaxpr: Jaxpr, eqn: JaxprEqn, inputs: list[_Node]) -> list[_Node]:
    named = {
        v: node.value
        for v, node in zip(eqn.invars, inputs, strict=True)
        if not isinstance(v, Literal)
    }
    recorded: Any = jaxpr
    alone = recorded.replace(
        constvars=[],
        invars=list(named),
        outvars=eqn.outvars,
        eqns=[eqn],
        effects=eqn.effects,
        debug_info=jaxpr.debug_info.with_unknown_names(),
    )
    values = jaxpr_as_fun(ClosedJaxpr(alone, ()))(*named.values())
    if not any(node.linear for node in inputs):
        return [_origin(value, False) for value in values]
    return [_followed(eqn, inputs, value) or _origin(value, True) for value in values]


def _followed(eqn: JaxprEqn, inputs: list[_Node], value: Array) -> _Node | None:
    """The output as scale · origin ⊗ side, where the operation allows it."""
    name = eqn.primitive.name
    linear, *others = sorted(inputs, key=lambda node: not node.linear)
    same_size = linear.value.size == value.size
    if name in MOVES and same_size:
        return linear._replace(value=value)
    if name == "neg":
        return linear._replace(value=value, scale=-linear.scale)
    if name in ("mul", "div") and same_size and jnp.size(others[0].value) == 1:
        by = jnp.reshape(others[0].value, ())
        scale = linear.scale * by if name == "mul" else linear.scale / by
        return linear._replace(value=value, scale=scale)
    if name == "dot_general" and linear.side is None:
        (summed, _), (batched, _) = eqn.params["dimension_numbers"]
        if not batched and all(inputs[0].value.shape[axis] == 1 for axis in summed):
            return linear._replace(value=value, side=others[0].value)
    return None
