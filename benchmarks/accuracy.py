"""Tangent kernels of infinitely wide networks against 50 digits, at pairs that are hard.

    python benchmarks/accuracy.py --out chapters/data/accuracy.json

Twelve points in three dimensions: equal ones, opposite ones, multiples of each other, and ones
nearly so, by angles from 1e-8 on. At all pairs the kernel of `ntklib` is compared with the
recursion in 50 digits (mpmath, tests/exact_limits.py), started at the same points as rounded to
the dtype. Beside it stands the recursion that carries variances and covariances alone: the same
closed forms, in the same dtype, with the angle found from the covariance.

An error is |Θ(x, y) − exact| / √(Θ(x, x) Θ(y, y)), the largest over all pairs.
"""

import argparse
import importlib.util
import json
import platform
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ntklib import dual_activations, polynomial_duals
from ntklib.deep_ntk import Activate, Dense, repeat, serial
from ntklib.dual_activations import Activation

ROOT = Path(__file__).parents[1]
Points = np.ndarray[Any, Any]


def exact_limits() -> ModuleType:
    """The recursions in 50 digits, from the tests."""
    path = ROOT / "tests" / "exact_limits.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Case(NamedTuple):
    """A network: its activation, hidden layers, σ_w and σ_b."""

    name: str
    activation: Activation
    moments: Callable[..., Any]
    hidden: int
    w: float
    b: float


def cases(exact: ModuleType) -> list[Case]:
    """What is measured."""
    relu = "ReLU", dual_activations.relu, exact.piecewise(0, 1)
    others = [
        ("leaky ReLU", dual_activations.leaky_relu(0.25), exact.piecewise(0.25, 1)),
        ("|z|", dual_activations.abs_, exact.piecewise(-1, 1)),
        ("erf", dual_activations.erf, exact.erf),
        ("GELU", dual_activations.gelu, exact.gelu),
        ("sin", dual_activations.sin, exact.sin),
        ("Gaussian", dual_activations.gaussian(1.0, -1.0), exact.gaussian),
    ]
    deep = [Case(*relu, hidden, 2**0.5, 0.0) for hidden in (1, 3, 10, 1000)]
    square = Case("ReLU²", polynomial_duals.rectified_monomial(2), exact.ramp2, 1, 1.2, 0.0)
    return [*deep, *(Case(*other, 3, 1.2, 0.3) for other in others), square]


def hard_points(dtype: str) -> Points:
    """Equal, nearly equal, parallel, opposite and nearly opposite points, in no order."""
    rng = np.random.default_rng(0)
    x, z = rng.normal(size=3), rng.normal(size=3)
    rows = [x, x + 1e-8 * z, -x, x, x + 1e-3 * z, 2 * x, x + 0.05 * z, -x + 1e-8 * z]
    return np.stack([*rows, -0.5 * x, x + 1e-5 * z, z, -x + 1e-4 * z]).astype(dtype)


def plain(activation: Activation, x: Points, hidden: int, w: float, b: float) -> Points:
    """Θ by the recursion of variances and covariances."""

    @jax.jit
    def layers(x: jax.Array) -> jax.Array:
        sigma = theta = w**2 * x @ x.T / x.shape[1] + b**2

        def layer(_: Any, pair: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            sigma, theta = pair
            q1, q2 = jnp.diag(sigma)[:, None], jnp.diag(sigma)[None]
            dot = w**2 * activation.dual_derivative(q1, q2, sigma)
            sigma = w**2 * activation.dual(q1, q2, sigma) + b**2
            return sigma, sigma + dot * theta

        found: jax.Array = jax.lax.fori_loop(0, hidden, layer, (sigma, theta))[1]
        return found

    return np.asarray(layers(jnp.asarray(x)))


def library(activation: Activation, x: Points, hidden: int, w: float, b: float) -> Points:
    """Θ by `ntklib`."""
    dense = Dense(1, w, b)
    block = serial(dense, Activate(activation))
    net = serial(repeat(block, hidden) if hidden > 9 else serial(*[block] * hidden), dense)
    return np.asarray(net.ntk(x))


def errors(gram: Points, exact: Sequence[Sequence[Any]], mpf: Callable[[float], Any]) -> Points:
    """|Θ − exact| / √(Θ(x, x) Θ(y, y)), at all pairs."""
    n = len(gram)
    apart = [
        [
            float(abs(mpf(float(gram[i, j])) - exact[i][j]) / (exact[i][i] * exact[j][j]) ** 0.5)
            for j in range(n)
        ]
        for i in range(n)
    ]
    return np.array(apart)


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    out = parser.parse_args().out
    jax.config.update("jax_enable_x64", True)
    exact = exact_limits()
    rows = []
    for case in cases(exact):
        row: dict[str, Any] = {"activation": case.name, "hidden": case.hidden}
        row |= {"W_std": round(case.w, 6), "b_std": case.b}
        for dtype in ("float64", "float32"):
            x = hard_points(dtype)
            pairs = [[exact.mpf(0)] * len(x) for _ in x]
            for i in range(len(x)):
                for j in range(i, len(x)):
                    moments = [case.moments] * case.hidden
                    value = exact.network(moments, case.w, case.b, x[i], x[j])[1]
                    pairs[i][j] = pairs[j][i] = value
            network = case.activation, x, case.hidden, case.w, case.b
            for name, made in (("ntklib", library), ("covariances", plain)):
                apart = errors(made(*network), pairs, exact.mpf)
                row[f"{name} {dtype}"] = float(f"{apart.max():.1e}")
                row[f"{name} {dtype} diagonal"] = float(f"{np.diag(apart).max():.1e}")
        rows.append(row)
        print(json.dumps(row, ensure_ascii=False), flush=True)
    packages = {name: version(name) for name in ("jax", "jaxlib", "numpy", "mpmath")}
    provenance = {
        "script": "benchmarks/accuracy.py",
        "python": platform.python_version(),
        "machine": platform.machine(),
        **packages,
    }
    told = "largest |error| / sqrt(ntk(x, x) ntk(y, y)) over all pairs of twelve hard points"
    out.write_text(
        json.dumps({"provenance": provenance, "error": told, "cases": rows}, ensure_ascii=False)
        + "\n",
        "utf-8",
    )


if __name__ == "__main__":
    main()
