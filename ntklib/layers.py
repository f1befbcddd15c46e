"""Layers as triples (init, apply, kernel), after ``jax.example_libraries.stax``.

- ``init(key, input_shape)``: the shape of the output, and random parameters;
- ``apply(params, x)``: the finite layer;
- ``kernel(x1, x2=None, get="ntk")``: its kernel in the limit of infinite width; of a
  `State`, the state behind the layer.

Names and meanings are those of ``neural_tangents.stax``.
"""

import math
from collections import namedtuple
from collections.abc import Callable, Sequence
from dataclasses import field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from ntklib import _check
from ntklib.angle import reciprocal, root
from ntklib.dual_activations import number
from ntklib.kernels import Kernel, pytree
from ntklib.network_state import State, affine, balance, finish, from_points, power_of_2

__all__ = ["Dense", "Identity", "Layer", "LayerNorm", "Limit", "layer"]

SMALL = 256**2
Shape = tuple[int, ...]
Step = Callable[[Any], Any]


class Layer(NamedTuple):
    """A layer, or a network: the same thing.

    Attributes:
        init: ``init(key, input_shape, dtype=float)`` → (output_shape, params). The last entry
            of input_shape counts the features; the others, if any, are passed on.
        apply: ``apply(params, x)`` → outputs, for points x of shape (n, d).
        kernel: ``kernel(x1, x2=None, get="ntk")``; see `Limit` for the arguments. get is
            ``"ntk"``, ``"nngp"``, or a tuple of these for a named tuple of arrays.
    """

    init: Callable[..., tuple[Any, Any]]
    apply: Callable[[Any, Any], Any]
    kernel: Callable[..., Any]

    @property
    def ntk(self) -> "Limit":
        """The tangent kernel in the limit, a `Kernel`."""
        return Limit(self.kernel, "ntk")

    @property
    def nngp(self) -> "Limit":
        """The covariance of the outputs in the limit, a `Kernel`."""
        return Limit(self.kernel, "nngp")


@pytree
class Limit(Kernel):
    """A kernel of an infinitely wide network: ``net.ntk`` or ``net.nngp``.

    Called as ``k(x1, x2=None)`` on points of shapes (n1, d) and (n2, d); the result, of shape
    (n1, n2), is the kernel of one output. The Gram matrix of one set of points is exactly
    symmetric. Entries of equal or opposite points are as exact as all others.

    Derivatives in the points exist wherever the kernel has them. Where it has none, at
    x1 = ±x2 behind a kink and at x = 0 without bias, the singular term counts as 0.

    Raises:
        TypeError, ValueError: wrong dtype or shape, no points, NaN or infinite entries.
        FloatingPointError: an entry overflows.
    """

    kernel: Callable[..., Any] = field(metadata={"static": True})
    get: str = field(metadata={"static": True})

    def __call__(self, x1: ArrayLike, x2: ArrayLike | None = None) -> Array:
        gram: Array = self.kernel(x1, x2, self.get)
        return gram

    def _gram(self, x1: Array, x2: Array) -> Array:
        return self(x1, x2)


def layer(
    init: Callable[..., Any],
    apply: Callable[[Any, Any], Any],
    step: Step,
    parts: Sequence[Any] | None = None,
) -> Layer:
    """A layer from its init and apply and its step, `State` ↦ `State`, in the limit.

    The parts, if any, say what it is made of: (W_std, b_std) of a dense layer in the NTK
    parametrisation, an activation. From them `ntklib.fused` knows the networks that it can do.
    """

    def evaluate(x1: Array, x2: Array, names: tuple[str, ...], same: bool) -> list[Array]:
        state = step(from_points(x1, x2))
        if not isinstance(state, State):
            raise ValueError(f"network: ends in {len(state)} branches; close them by FanInSum")
        kernels: list[Array] = finish(state, names, same)
        return kernels

    compiled = jax.jit(evaluate, static_argnums=(2, 3))

    def kernel(x1: Any, x2: ArrayLike | None = None, get: str | Sequence[str] = "ntk") -> Any:
        if isinstance(x1, State | list):
            return step(x1)
        names = (get,) if isinstance(get, str) else tuple(get)
        if not names or not set(names) <= {"nngp", "ntk"}:
            raise ValueError(f'get: expected "nngp", "ntk" or a tuple of these, got {get!r}')
        same = x2 is None or x2 is x1
        left = _check.points("x1", x1)
        right = left if x2 is None or same else _check.points("x2", x2, left.shape[1])
        _check.same_dtype(x1=left, x2=right)
        # A small matrix goes layer by layer: layers are compiled once for all networks. For a
        # large one it pays to compile the network.
        large = len(left) * len(right) > SMALL
        arrays = (compiled if large else evaluate)(left, right, names, same)
        for name, array in zip(names, arrays, strict=True):
            if not isinstance(array, jax.core.Tracer) and not jnp.isfinite(array).all():
                raise FloatingPointError(f"{name}: overflows {array.dtype}")
        return arrays[0] if isinstance(get, str) else namedtuple("Kernels", names)(*arrays)

    kernel.parts = [step] if parts is None else list(parts)  # type: ignore[attr-defined]
    return Layer(init, apply, kernel)


def no_parameters(key: Array, input_shape: Any, dtype: Any = float) -> tuple[Any, tuple[()]]:
    """The init of a layer without parameters that keeps the shape."""
    return input_shape, ()


def Identity() -> Layer:
    """The layer that does nothing."""
    return layer(no_parameters, lambda params, x: x, lambda state: state, [])


def Dense(
    out_dim: int,
    W_std: float = 1.0,
    b_std: float | None = None,
    *,
    parameterization: str = "ntk",
    s: tuple[int, int] = (1, 1),
) -> Layer:
    """A layer with all connections.

    With fan-in N, ``"ntk"`` is z = W_std/√N · x W + b_std · b with W, b ~ N(0, 1), and in the
    limit K ← W_std² K + b_std², Θ ← K + W_std² Θ. ``"standard"`` is z = x W/√s₀ + b with
    W ~ N(0, s₀ W_std²/N), b ~ N(0, b_std²); the same K, and Θ ← (N/s₀) K_before + W_std² Θ,
    + 1 for the bias (:cite:t:`sohldickstein2020`).

    Args:
        out_dim: the number of outputs. The limit does not depend on it, except in
            ``"standard"``, where it is the N of the next layer.
        W_std: standard deviation of the weights, ≥ 0.
        b_std: standard deviation of the biases, ≥ 0; ``None`` for no bias.
        parameterization: ``"ntk"`` or ``"standard"``.
        s: how much wider than N and out_dim the finite layer is on its two sides, for
            ``"standard"`` alone.

    Raises:
        TypeError, ValueError: an argument of another type or out of range.
    """
    out_dim = _check.integer("out_dim", out_dim, at_least=1)
    w = number("W_std", W_std, at_least=0)
    b = None if b_std is None else number("b_std", b_std, at_least=0)
    if parameterization not in ("ntk", "standard"):
        raise ValueError(
            f'parameterization: expected "ntk" or "standard", got {parameterization!r}'
        )
    standard = parameterization == "standard"
    s0, s1 = (_check.integer("s", value, at_least=1) for value in s)
    if not standard and (s0, s1) != (1, 1):
        raise ValueError(f's: expected (1, 1) unless parameterization="standard", got {s}')

    def init(key: Array, input_shape: Shape, dtype: Any = float) -> tuple[Shape, Any]:
        fan_in = input_shape[-1]
        key_w, key_b = jax.random.split(key)
        weights = jax.random.normal(key_w, (fan_in, s1 * out_dim), dtype)
        biases = None if b is None else jax.random.normal(key_b, (1, s1 * out_dim), dtype)
        if standard:
            weights = weights * (w * math.sqrt(s0 / fan_in))
            biases = biases if biases is None or b is None else b * biases
        return (*input_shape[:-1], s1 * out_dim), (weights, biases)

    def apply(params: Any, x: Array) -> Array:
        weights, biases = params
        gain, lift = (1 / math.sqrt(s0), 1.0) if standard else (w / math.sqrt(x.shape[-1]), b)
        z: Array = gain * (x @ weights)
        return z if biases is None else z + lift * biases

    def step(state: State) -> State:
        growth = state.growth + (2 * math.log2(w) if w > 0 else 0.0)
        bias = None if b is None or (b == 0 and not standard) else b**2
        learned = (state.width / s0, 1.0) if standard else (w**2, bias or 0.0)
        state = affine(state.replace(growth=0.0), w**2, learned[0], bias, learned[1])
        growth = growth if bias is None else max(growth, 0.0)
        state = balance(state.replace(growth=growth))
        return state.replace(width=s1 * out_dim, gaussian=True)

    return layer(init, apply, step, None if standard else [(w, b or 0.0)])


def LayerNorm(eps: float = 1e-12) -> Layer:
    """Each point's features, centred and divided by their standard deviation.

    In the limit K ← K/√((q1 + eps)(q2 + eps)), and Θ likewise; the finite layer divides by
    √(variance + eps).

    Args:
        eps: a number ≥ 0; above 0 zero features stay zero.

    Raises:
        TypeError, ValueError: eps is not such a number.
    """
    eps = number("eps", eps, at_least=0)

    def apply(params: tuple[()], x: Array) -> Array:
        centred = x - x.mean(-1, keepdims=True)
        return centred / jnp.sqrt((centred**2).mean(-1, keepdims=True) + eps)

    @jax.jit
    def step(state: State) -> State:
        if not state.gaussian:
            raise ValueError("LayerNorm: expected a layer with random weights before it")
        # eps in the unit of the stored variances, 4^exponent.
        unit = power_of_2(-state.exponent)
        small = eps * unit * unit
        r1, r2 = (reciprocal(root(q + small)) for q in (state.q1, state.q2))
        factor = r1[:, None] * r2[None]
        return state.replace(
            q1=state.q1 * r1**2,
            q2=state.q2 * r2**2,
            c=state.c * factor,
            ntk=state.ntk * factor,
            low=state.low * factor,
            exponent=jnp.zeros_like(state.exponent),
            growth=0.0,
        )

    return layer(no_parameters, apply, step)
