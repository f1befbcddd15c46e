"""Random functions, the kernel that they sample, and features of given kernels.

A feature map is a function x -> (n, P): the values of P functions, drawn once by an explicit
key, at n points. The factor P^(−1/2) is inside, so that φ(x) · φ(x') is an average over the
functions. Functions with m outputs make features of shape (n, P, m).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import field
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike, DTypeLike

from ntklib import _check
from ntklib.dual_activations import Activation
from ntklib.kernels import Kernel, Pointwise, pytree, set_fields
from ntklib.stationary import RBF, Laplace, Matern, Stationary

__all__ = [
    "FeatureFunction",
    "FeatureKernel",
    "FeatureMap",
    "Fourier",
    "HiddenLayer",
    "Neurons",
    "RandomFunctions",
    "random_features",
]


class FeatureMap(ABC):
    """P random functions, drawn once: φ(x) = P^(−1/2) (f⁽¹⁾(x), …, f⁽ᴾ⁾(x))."""

    def __call__(self, x: ArrayLike) -> Array:
        """The features of points.

        Args:
            x: points, shape (n, d).

        Returns:
            Shape (n, P), or (n, P, m) for functions with m outputs, in the dtype of x.

        Raises:
            TypeError: a dtype other than float32 and float64, or not that of the map.
            ValueError: another shape, no points, NaN or infinite entries.
        """
        x = _check.points("x", x)
        features: Array = _evaluate(self, x)
        return features

    @abstractmethod
    def evaluate(self, x: Array) -> Array:
        """The features of points of shape (n, d), unchecked."""


@jax.jit
def _evaluate(features: FeatureMap, x: Array) -> Array:
    return features.evaluate(x)


def _times_rows(x: Array, rows: Array, name: str) -> Array:
    """x rowsᵀ in full precision, which an accelerator has to be asked for."""
    _check.points("x", x, rows.shape[1])
    _check.same_dtype(x=x, **{name: rows})
    return jnp.matmul(x, rows.T, precision="highest")


@pytree
class Fourier(FeatureMap):
    """Waves of random frequency: φ(x) = M^(−1/2) (cos ωⱼ·x, sin ωⱼ·x), P = 2M, :eq:`eq-fourier`.

    φ(x) · φ(x') is the mean of cos ωⱼ·(x − x'), so it is 1 at x = x'. In float32 the phase of
    a wave is known to |ω·x| 6e-8: the rare frequencies above 1e6 of a Laplace kernel are lost.

    Args:
        frequencies: the ωⱼ, shape (M, d).
    """

    frequencies: Array

    def evaluate(self, x: Array) -> Array:
        phase = _times_rows(x, self.frequencies, "frequencies")
        waves = jnp.concatenate([jnp.cos(phase), jnp.sin(phase)], axis=1)
        return jnp.divide(waves, len(self.frequencies) ** 0.5)


@pytree
class Neurons(FeatureMap):
    """A hidden layer: φ(x) = P^(−1/2) a(W_std W x / √d + b_std b), functions :eq:`eq-neurons`.

    Args:
        activation: the function a.
        weights: W, shape (P, d), standard normal.
        biases: b, shape (P,), standard normal.
        W_std, b_std: their scales, numbers ≥ 0.
    """

    activation: Activation = field(metadata={"static": True})
    weights: Array
    biases: Array
    W_std: ArrayLike = 1.0
    b_std: ArrayLike = 0.0

    def evaluate(self, x: Array) -> Array:
        size, dimension = self.weights.shape
        fields = self.W_std / dimension**0.5 * _times_rows(x, self.weights, "weights")
        values = self.activation.fn(fields + self.b_std * self.biases[None])
        return jnp.divide(values, size**0.5)


@pytree
class RandomFunctions(FeatureMap):
    """Any P functions of one network: φ(x) = P^(−1/2) apply(params, x).

    Args:
        apply: a function ``apply(params, x)``, shape (n, P) or (n, P, m): for example the last
            hidden layer of a network.
        params: any pytree of arrays, drawn by the caller's key.
    """

    apply: Callable[[Any, Array], Array] = field(metadata={"static": True})
    params: Any

    def evaluate(self, x: Array) -> Array:
        values = self.apply(self.params, x)
        if values.ndim not in (2, 3) or len(values) != len(x):
            n = len(x)
            raise ValueError(
                f"apply(params, x): expected shape ({n}, P) or ({n}, P, m), got {values.shape}"
            )
        _check.same_dtype(x=x, features=values)
        return jnp.divide(values, values.shape[1] ** 0.5)


@pytree
class FeatureKernel(Kernel):
    """K̃(x, x') = φ(x) · φ(x') = (1/P) Σ_p f⁽ᵖ⁾(x) ⊗ f⁽ᵖ⁾(x'), :eq:`eq-sampled-kernel`.

    No training of the weights θ changes it: it is the tangent kernel of `FeatureFunction`
    (:prf:ref:`prop-constant-kernel`).

    Args:
        features: a feature map.

    Raises:
        TypeError: features is no `FeatureMap`.
    """

    features: FeatureMap

    def __post_init__(self) -> None:
        _is_map(self.features)

    def _gram(self, x1: Array, x2: Array) -> Array:
        left = self.features(x1)
        right = left if x1 is x2 else self.features(x2)
        sums = "ip,jp->ij" if left.ndim == 2 else "ipa,jpb->ijab"
        return jnp.einsum(sums, left, right, precision="highest")


@pytree
class FeatureFunction:
    """f_θ(x) = P^(−1/2) Σ_p θ_p f⁽ᵖ⁾(x), :eq:`eq-random-function`.

    Args:
        features: a feature map.
        theta: weights, shape (P,), or (P, m) for m functions of the same features.

    Raises:
        TypeError, ValueError: features is no `FeatureMap`; theta of a wrong dtype or shape, or
            with NaN or infinite entries.
    """

    features: FeatureMap
    theta: Array

    def __post_init__(self) -> None:
        _is_map(self.features)
        theta = _check.floats("theta", self.theta)
        _check.columns("theta", theta, len(theta) if theta.ndim else 1)
        set_fields(self, theta=theta)

    def __call__(self, x: ArrayLike) -> Array:
        """f_θ at points of shape (n, d): shape (n,), or (n, m) for m outputs."""
        features = self.features(x)
        _check.same_dtype(x=features, theta=self.theta)
        _check.columns("theta", self.theta, features.shape[1])
        if features.ndim == 3:
            _check.shape("theta", self.theta, (features.shape[1],))
            return jnp.einsum("npa,p->na", features, self.theta, precision="highest")
        return jnp.matmul(features, self.theta, precision="highest")


@pytree
class HiddenLayer(Pointwise):
    """k(x, x') = E a(u) a(v), the limit of `Neurons` as P → ∞, :prf:ref:`prop-neurons`.

    (u, v) is normal with mean 0 and covariance W_std² ⟨x, x'⟩/d + b_std². With the ReLU it is
    half the arc-cosine kernel of degree 1 of :cite:t:`cho2009`, divided by d.

    Args:
        activation: the function a, with its dual.
        W_std, b_std: scales of weights and biases, numbers ≥ 0.

    Raises:
        TypeError, ValueError: a scale is no number, negative, NaN or infinite.
    """

    activation: Activation = field(metadata={"static": True})
    W_std: ArrayLike = 1.0
    b_std: ArrayLike = 0.0

    def __post_init__(self) -> None:
        set_fields(self, W_std=_check.number("W_std", self.W_std, at_least=0))
        set_fields(self, b_std=_check.number("b_std", self.b_std, at_least=0))

    def evaluate(self, x: Array, y: Array) -> Array:
        def covariance(a: Array, b: Array) -> Array:
            return jnp.square(self.W_std) * (a @ b) / len(a) + jnp.square(self.b_std)

        return self.activation.dual(covariance(x, x), covariance(y, y), covariance(x, y))


def random_features(
    kernel: Kernel,
    dimension: int,
    size: int,
    key: Array,
    *,
    orthogonal: bool = False,
    dtype: DTypeLike = float,
) -> FeatureMap:
    """Features whose kernel has the given one as its mean, E φ(x) · φ(x') = k(x, x').

    Args:
        kernel: `RBF`, `Laplace` or `Matern` for `Fourier` features (normal, Cauchy and
            Student frequencies, :prf:ref:`prop-spectral-samples`), or `HiddenLayer` for
            `Neurons`.
        dimension: d, of the points.
        size: P, the number of features; even for Fourier features.
        key: a JAX key.
        orthogonal: make the frequencies (or weights) orthogonal in blocks of d, with the
            lengths that they had, :prf:ref:`prop-orthogonal`.
        dtype: float32 or float64; the points must have it. By default that of JAX's mode.

    Raises:
        TypeError: another kernel; dimension or size no integer.
        ValueError: dimension or size < 1, or an odd size for Fourier features.
    """
    d = _check.integer("dimension", dimension, at_least=1)
    size = _check.integer("size", size, at_least=1)
    for_rows, for_radii, for_biases, for_directions = jax.random.split(key, 4)
    if isinstance(kernel, HiddenLayer):
        rows = jax.random.normal(for_rows, (size, d), dtype)
        if orthogonal:
            rows = _orthogonal(rows, for_directions)
        biases = jax.random.normal(for_biases, (size,), dtype)
        return Neurons(kernel.activation, rows, biases, kernel.W_std, kernel.b_std)
    if not isinstance(kernel, RBF | Laplace | Matern):
        raise TypeError(f"kernel: expected RBF, Laplace, Matern or HiddenLayer, got {kernel}")
    if size % 2:
        raise ValueError(f"size: expected an even number, cosines and sines, got {size}")
    rows = jax.random.normal(for_rows, (size // 2, d), dtype) / kernel.length_scale
    if not isinstance(kernel, RBF):
        rows = rows * _radii(kernel, len(rows), for_radii, dtype)[:, None]
    return Fourier(_orthogonal(rows, for_directions) if orthogonal else rows)


def _radii(kernel: Stationary, n: int, key: Array, dtype: DTypeLike) -> Array:
    """√(ν/s) with s of a Gamma(ν) distribution: it makes Student rows of normal ones."""
    nu = kernel.nu if isinstance(kernel, Matern) else 0.5
    return jnp.sqrt(nu / jax.random.gamma(key, nu, (n,), dtype))


def _orthogonal(rows: Array, key: Array) -> Array:
    """The lengths of the rows, along random directions, orthonormal in blocks of d rows."""
    n, d = rows.shape
    blocks = jax.random.orthogonal(key, d, (-(-n // d),), dtype=rows.dtype)
    lengths: Array = jnp.linalg.norm(rows, axis=1, keepdims=True)
    return blocks.reshape(-1, d)[:n] * lengths


def _is_map(features: object) -> None:
    if not isinstance(features, FeatureMap):
        raise TypeError(f"features: expected a FeatureMap, got {features!r}")
