"""Deep networks of infinite width: their covariance (NNGP) and tangent kernel (NTK).

    net = serial(Dense(512), Relu(), Dense(1))
    net.kernel(x, get="ntk")            # shape (n, n)
    shape, params = net.init(key, (d,))
    net.apply(params, x)                # the finite network, shape (n, 1)
    ridge(net.ntk, x, y, 1e-3)          # net.ntk and net.nngp are kernels like all others

Names and meanings are those of ``neural_tangents.stax``; a layer is a triple
``(init, apply, kernel)``, see `ntklib.layers`.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from ntklib import _check
from ntklib import dual_activations as dual
from ntklib.activate import activate
from ntklib.angle import Pair
from ntklib.dual_activations import Activation
from ntklib.layers import Dense, Identity, Layer, LayerNorm, Limit, layer, no_parameters
from ntklib.network_state import State, add, shift
from ntklib.numerical_duals import numerical
from ntklib.polynomial_duals import hermite, monomial, polynomial, rectified_monomial

__all__ = [
    "ABRelu",
    "Abs",
    "Activate",
    "Cos",
    "Dense",
    "Elementwise",
    "ElementwiseNumerical",
    "Erf",
    "Exp",
    "FanInSum",
    "FanOut",
    "Gaussian",
    "Gelu",
    "Hermite",
    "Identity",
    "Layer",
    "LayerNorm",
    "LeakyRelu",
    "Limit",
    "Monomial",
    "Polynomial",
    "Rbf",
    "RectifiedMonomial",
    "Relu",
    "Sigmoid_like",
    "Sign",
    "Sin",
    "State",
    "parallel",
    "repeat",
    "serial",
]


def serial(*layers: Layer) -> Layer:
    """The layers one after the other."""
    inits, applies, kernels = zip(*layers, strict=True)

    def init(key: Array, input_shape: Any, dtype: Any = float) -> tuple[Any, list[Any]]:
        params = []
        for one, one_key in zip(inits, jax.random.split(key, len(inits)), strict=True):
            input_shape, own = one(one_key, input_shape, dtype)
            params.append(own)
        return input_shape, params

    def apply(params: Sequence[Any], x: Any) -> Any:
        for one, own in zip(applies, params, strict=True):
            x = one(own, x)
        return x

    def step(state: Any) -> Any:
        for one in kernels:
            state = one(state)
        return state

    parts = [part for one in kernels for part in getattr(one, "parts", [one])]
    return layer(init, apply, step, parts)


def repeat(block: Layer, times: int) -> Layer:
    """The layer `times` times over, each with parameters of its own.

    Like ``serial(*[block] * times)``, but compiled once however many: for very deep networks.
    The block must keep the number of features.

    Raises:
        TypeError, ValueError: times is not an integer ≥ 1.
    """
    times = _check.integer("times", times, at_least=1)

    def init(key: Array, input_shape: Any, dtype: Any = float) -> tuple[Any, Any]:
        output_shape, _ = block.init(key, input_shape, dtype)
        if output_shape != input_shape:
            raise ValueError(f"block: expected to keep the shape {input_shape}, got {output_shape}")
        keys = jax.random.split(key, times)
        return output_shape, jax.vmap(lambda k: block.init(k, input_shape, dtype)[1])(keys)

    def apply(params: Any, x: Array) -> Array:
        y: Array = lax.scan(lambda x, own: (block.apply(own, x), None), x, params)[0]
        return y

    def step(state: State) -> State:
        # The first time apart: it may change what is static in the state.
        state = block.kernel(state).replace(growth=0.0)

        def again(state: State, _: None) -> tuple[State, None]:
            state = block.kernel(state)
            # Here by any growth: a scan cannot wait for it to add up.
            return shift(state, round(state.growth / 2)).replace(growth=0.0), None

        last: State = lax.scan(again, state, length=times - 1)[0]
        return last

    return layer(init, apply, step)


def parallel(*layers: Layer) -> Layer:
    """The layers side by side, each on its own branch of a `FanOut`."""
    inits, applies, kernels = zip(*layers, strict=True)

    def init(key: Array, input_shape: Any, dtype: Any = float) -> tuple[list[Any], list[Any]]:
        keys = jax.random.split(key, len(inits))
        made = [f(k, s, dtype) for f, k, s in zip(inits, keys, input_shape, strict=True)]
        return [shape for shape, _ in made], [own for _, own in made]

    def apply(params: Any, x: Any) -> list[Any]:
        return [f(own, one) for f, own, one in zip(applies, params, x, strict=True)]

    def step(states: Any) -> list[Any]:
        return [f(state) for f, state in zip(kernels, states, strict=True)]

    return layer(init, apply, step)


def FanOut(num: int) -> Layer:
    """Copies for `num` branches.

    Raises:
        TypeError, ValueError: num is not an integer ≥ 1.
    """
    num = _check.integer("num", num, at_least=1)

    def init(key: Array, input_shape: Any, dtype: Any = float) -> tuple[list[Any], tuple[()]]:
        return [input_shape] * num, ()

    return layer(init, lambda params, x: [x] * num, lambda state: [state] * num)


def FanInSum() -> Layer:
    """The sum of the branches.

    ``serial(FanOut(2), parallel(f, Identity()), FanInSum())`` is x ↦ f(x) + x.
    The kernels add, since the branches are uncorrelated: all but one must end in a layer with
    random weights of its own.

    Raises:
        ValueError: the branches are correlated, or have different shapes.
    """

    def init(key: Array, input_shape: Any, dtype: Any = float) -> tuple[Any, tuple[()]]:
        if any(shape != input_shape[0] for shape in input_shape):
            raise ValueError(f"branches: expected one shape, got {input_shape}")
        return input_shape[0], ()

    def step(states: Sequence[State]) -> State:
        twice = any(a is b for i, a in enumerate(states) for b in states[:i])
        if twice or sum(not state.gaussian for state in states) > 1:
            raise ValueError("branches: expected all but one to end in a layer with weights")
        total = states[0]
        for state in states[1:]:
            total = add(total, state)
        return total

    return layer(init, lambda params, x: sum(x[1:], x[0]), step)


def Activate(activation: Activation) -> Layer:
    """The layer of any `ntklib.dual_activations.Activation`."""
    return layer(
        no_parameters,
        lambda params, x: activation.fn(x),
        lambda state: activate(activation, state),
        [activation],
    )


def Elementwise(
    fn: Callable[[Array], Array],
    nngp_fn: Callable[[Array, Array, Array], Array] | None = None,
    d_nngp_fn: Callable[[Array, Array, Array], Array] | None = None,
    *,
    kinks: Sequence[float] = (),
) -> Layer:
    """Any function φ, entry by entry.

    Args:
        fn: φ, on arrays of any shape.
        nngp_fn: (c, q1, q2) ↦ E[φ(u)φ(v)] of three numbers, if known; ``None`` for quadrature.
        d_nngp_fn: (c, q1, q2) ↦ E[φ'(u)φ'(v)]; ``None`` for the derivative of nngp_fn in c.
        kinks: the points where φ or φ' jumps, for quadrature.

    Raises:
        TypeError, ValueError: as for `ntklib.numerical_duals.numerical`.
    """
    if nngp_fn is None:
        return Activate(numerical(fn, kinks=kinks))
    value, slope = nngp_fn, d_nngp_fn or jax.grad(nngp_fn)

    def turn(p: Pair) -> tuple[Array, Array]:
        dual = jnp.vectorize(value)
        pair = Pair.of(dual(p.q1, p.q1, p.q1), dual(p.q2, p.q2, p.q2), dual(p.c, p.q1, p.q2))
        return pair.chord, pair.obtuse

    return Activate(
        Activation(
            fn,
            expectation=lambda p: jnp.vectorize(value)(p.c, p.q1, p.q2),
            derivative=lambda p: jnp.vectorize(slope)(p.c, p.q1, p.q2),
            turn=turn,
        )
    )


def ElementwiseNumerical(
    fn: Callable[[Array], Array], deg: int, df: Callable[[Array], Array] | None = None
) -> Layer:
    """Any smooth function, by `deg` Hermite coefficients; df is its derivative, if known."""
    return Activate(numerical(fn, df, degree=deg))


def Relu() -> Layer:
    """max(x, 0)."""
    return Activate(dual.relu)


def LeakyRelu(alpha: float) -> Layer:
    """max(x, 0) + alpha min(x, 0)."""
    return Activate(dual.leaky_relu(alpha))


def ABRelu(a: float, b: float) -> Layer:
    """a min(x, 0) + b max(x, 0)."""
    return Activate(dual.piecewise_linear(a, b))


def Abs() -> Layer:
    """|x|."""
    return Activate(dual.abs_)


def Sign() -> Layer:
    """The sign of x; its derivative counts as 0, so Θ is 0 behind it."""
    return Activate(dual.sign)


def Erf(a: float = 1.0, b: float = 1.0, c: float = 0.0) -> Layer:
    """a erf(bx) + c."""
    return Activate(dual.erf if (a, b, c) == (1, 1, 0) else dual.scaled_erf(a, b, c))


def Sigmoid_like() -> Layer:
    """(1 + erf(x/2.4020563531719796))/2, near the logistic function."""
    return Erf(0.5, 1 / 2.4020563531719796, 0.5)


def Gelu() -> Layer:
    """x Φ(x) with the normal distribution function Φ."""
    return Activate(dual.gelu)


def Sin(a: float = 1.0, b: float = 1.0, c: float = 0.0) -> Layer:
    """a sin(bx + c)."""
    return Activate(dual.sinusoid(a, b, c))


def Cos(a: float = 1.0, b: float = 1.0, c: float = 0.0) -> Layer:
    """a cos(bx + c)."""
    return Sin(a, b, c + jnp.pi / 2)


def Rbf(gamma: float = 1.0) -> Layer:
    """√2 sin(√(2 gamma) x + π/4), with the covariance e^(−gamma E(u − v)²)."""
    return Activate(dual.rbf(gamma))


def Gaussian(a: float = 1.0, b: float = -1.0) -> Layer:
    """a e^(bx²), b < 0."""
    return Activate(dual.gaussian(a, b))


def Exp(a: float = 1.0, b: float = 1.0) -> Layer:
    """a e^(bx)."""
    return Activate(dual.exponential(a, b))


def Monomial(degree: int) -> Layer:
    """x^degree."""
    return Activate(monomial(degree))


def RectifiedMonomial(degree: int) -> Layer:
    """x^degree for x ≥ 0, else 0."""
    return Activate(rectified_monomial(degree))


def Polynomial(coef: Sequence[float]) -> Layer:
    """Σₙ coef[n] xⁿ."""
    return Activate(polynomial(coef))


def Hermite(degree: int) -> Layer:
    """The Hermite polynomial of unit norm under N(0, 1), at any variance."""
    return Activate(hermite(degree))
