"""How training moves a network and its tangent kernel, against the width: six quantities.

    python benchmarks/exponents.py            # several minutes on two cores; go on where it stopped
    python benchmarks/exponents.py --fit      # the exponents of the stored numbers

Networks with two hidden layers of width n, NTK parametrisation, no biases, one output, learn
N = 12 points by the gradient flow of (1/2N) Σ (f − y)². Formulas are written out here, with no help
from the library's networks and kernels, so that the chapter, which repeats a part of this with the
library, compares two programs. The numbers go to chapters/data/exponents.json.
"""

import argparse
import json
import platform
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from scipy import stats

from ntklib._work import Checkpoint, fingerprint, progress

OUT = Path(__file__).parents[1] / "chapters" / "data" / "exponents.json"

WIDTHS = (32, 64, 128, 256, 512, 1024)
SEEDS = 20
BATCH = 5  # seeds at a time
N, TEST, D = 12, 30, 6
TIME, STEPS = 200.0, 400

Params = list[Array]
Activation = tuple[Callable[[Array], Array], Callable[[Array], Array]]

ACTIVATIONS: dict[str, Activation] = {
    "erf": (jax.scipy.special.erf, lambda z: 2 / jnp.sqrt(jnp.pi) * jnp.exp(-(z**2))),
    "relu": (jax.nn.relu, lambda z: (z > 0).astype(z.dtype)),
}
SCALE = 2**0.5  # σ_w

QUANTITIES = {
    "kernel": "‖Θ_t − Θ_0‖ / ‖Θ_0‖ on the training points, Frobenius norms",
    "first": "‖W¹_t − W¹_0‖ / ‖W¹_0‖",
    "hidden": "‖W²_t − W²_0‖ / ‖W²_0‖",
    "last": "‖W³_t − W³_0‖ / ‖W³_0‖",
    "linearised": "root mean square of f_t − f_lin,t on the test points",
    "start": "‖Θ_0 − Θ‖ / ‖Θ‖, Θ the kernel of the infinite network",
}


def data() -> tuple[Array, Array, Array]:
    """Training points on the sphere of radius √d, their targets, and test points."""
    draw = np.random.default_rng(0)
    x = draw.normal(size=(N + TEST, D))
    x *= np.sqrt(D) / np.linalg.norm(x, axis=1, keepdims=True)
    return jnp.asarray(x[:N]), jnp.asarray(np.sign(x[:N, 0]) + x[:N, 1]), jnp.asarray(x[N:])


def start(key: Array, width: int) -> Params:
    """Three matrices of standard normal numbers."""
    shapes = [(width, D), (width, width), (1, width)]
    return [
        jax.random.normal(k, shape, jnp.float64)
        for k, shape in zip(jax.random.split(key, 3), shapes, strict=True)
    ]


def layers(
    activation: Activation, params: Params, x: Array
) -> tuple[Array, list[Array], list[Array]]:
    """f, the inputs of the three layers (scaled), and the backward vectors ∂f/∂h¹, ∂f/∂h², 1."""
    phi, slope = activation
    first, hidden, last = params
    n = len(first)
    a1 = SCALE / D**0.5 * x
    h1 = a1 @ first.T
    a2 = SCALE / n**0.5 * phi(h1)
    h2 = a2 @ hidden.T
    a3 = SCALE / n**0.5 * phi(h2)
    f = a3 @ last[0]
    g2 = slope(h2) * (SCALE / n**0.5 * last[0])
    g1 = slope(h1) * (SCALE / n**0.5 * (g2 @ hidden))
    return f, [a1, a2, a3], [g1, g2, jnp.ones((len(x), 1))]


def tangent(activation: Activation, params: Params, x1: Array, x2: Array) -> Array:
    """Θ = Σ_l (A_l A_lᵀ) ∘ (G_l G_lᵀ)."""
    _, a, g = layers(activation, params, x1)
    _, b, h = layers(activation, params, x2)
    return sum(
        ((p @ q.T) * (r @ s.T) for p, q, r, s in zip(a, b, g, h, strict=True)),
        start=jnp.zeros((len(x1), len(x2))),
    )


def velocity(activation: Activation, x: Array, y: Array, params: Params) -> Params:
    """−∇ of (1/2N) Σ (f − y)²."""
    f, a, g = layers(activation, params, x)
    residual = (f - y)[:, None] / len(x)
    return [-(residual * back).T @ forward for forward, back in zip(a, g, strict=True)]


def train(activation: Activation, x: Array, y: Array, params: Params) -> Params:
    """The gradient flow up to TIME, by the classical Runge–Kutta method."""
    h = TIME / STEPS
    v = partial(velocity, activation, x, y)

    def along(params: Params, direction: Params, step: float) -> Params:
        return [p + step * d for p, d in zip(params, direction, strict=True)]

    def step(params: Params, _: None) -> tuple[Params, None]:
        k1 = v(params)
        k2 = v(along(params, k1, h / 2))
        k3 = v(along(params, k2, h / 2))
        k4 = v(along(params, k3, h))
        mean = [(a + 2 * b + 2 * c + d) / 6 for a, b, c, d in zip(k1, k2, k3, k4, strict=True)]
        return along(params, mean, h), None

    return jax.lax.scan(step, params, length=STEPS)[0]


def limit_kernel(name: str, x: Array) -> Array:
    """The tangent kernel of the infinite network, by the recursion of the two kernels."""
    sigma = theta = SCALE**2 * x @ x.T / D
    for _ in range(2):
        q = jnp.diag(sigma)
        if name == "relu":
            root = jnp.sqrt(q[:, None] * q)
            angle = jnp.arccos(jnp.clip(sigma / root, -1, 1))
            mean = root * (jnp.sin(angle) + (jnp.pi - angle) * jnp.cos(angle)) / (2 * jnp.pi)
            slopes = (jnp.pi - angle) / (2 * jnp.pi)
        else:
            root = (1 + 2 * q[:, None]) * (1 + 2 * q)
            mean = 2 / jnp.pi * jnp.arcsin(2 * sigma / jnp.sqrt(root))
            slopes = 4 / jnp.pi / jnp.sqrt(root - 4 * sigma**2)
        sigma = SCALE**2 * mean
        theta = sigma + SCALE**2 * slopes * theta
    return theta


@partial(jax.jit, static_argnames=("name", "width"))
def measure(name: str, width: int, keys: Array) -> Any:
    """The six quantities for several initializations, shape (6, keys)."""
    activation, (x, y, test) = ACTIVATIONS[name], data()
    exact = limit_kernel(name, x)

    def one(key: Array) -> Array:
        before = start(key, width)
        after = train(activation, x, y, before)
        kernel = tangent(activation, before, x, x)
        cross = tangent(activation, before, test, x)
        values, vectors = jnp.linalg.eigh(kernel)
        residual = vectors.T @ (y - layers(activation, before, x)[0])
        passed = vectors @ (-jnp.expm1(-TIME * values / N) / values * residual)
        linear = layers(activation, before, test)[0] + cross @ passed
        moved = tangent(activation, after, x, x) - kernel
        norm = jnp.linalg.norm
        return jnp.stack(
            [
                norm(moved) / norm(kernel),
                *[norm(p - q) / norm(q) for p, q in zip(after, before, strict=True)],
                jnp.sqrt(jnp.mean((layers(activation, after, test)[0] - linear) ** 2)),
                norm(kernel - exact) / norm(exact),
            ]
        )

    return jax.lax.map(one, keys).T


def sweep() -> dict[str, dict[str, list[list[float]]]]:
    """All networks; what is done is kept in a file, and an interrupted sweep goes on there."""
    tasks = [(a, w, s) for a in ACTIVATIONS for w in WIDTHS for s in range(0, SEEDS, BATCH)]
    identity = fingerprint("exponents", tasks, list(QUANTITIES), N, TEST, D, TIME, STEPS, SCALE)
    place = Path(tempfile.gettempdir()) / f"exponents-{identity}.npz"
    checkpoint = Checkpoint(place, identity)
    done = checkpoint.load() or {}
    rest = [task for task in tasks if "-".join(map(str, task)) not in done]
    steps = progress(rest, "exponents", shown=True, total=len(tasks), start=len(done))
    for name, width, seed in steps:
        keys = jax.vmap(jax.random.key)(jnp.arange(seed, seed + BATCH))
        done["-".join(map(str, (name, width, seed)))] = np.asarray(measure(name, width, keys))
        checkpoint.save(**done)
    table: dict[str, dict[str, list[list[float]]]] = {}
    for name in ACTIVATIONS:
        # (widths, quantities, seeds)
        found = np.stack(
            [
                np.concatenate([done[f"{name}-{w}-{s}"] for s in range(0, SEEDS, BATCH)], axis=1)
                for w in WIDTHS
            ]
        )
        table[name] = {
            quantity: [[float(f"{v:.8g}") for v in row] for row in found[:, i].T]
            for i, quantity in enumerate(QUANTITIES)
        }
    place.unlink()
    return table


def slope(errors: list[list[float]], first: int = 0) -> tuple[float, float]:
    """Mean slope over seeds of log error against log width, and the half-width of its interval."""
    rows = np.log(np.asarray(errors)[:, first:])
    slopes = np.polyfit(np.log(WIDTHS[first:]), rows.T, 1)[0]
    half = stats.t.ppf(0.975, len(slopes) - 1) * stats.sem(slopes)
    return float(slopes.mean()), float(half)


def main() -> None:
    """Sweep if asked to, and print each exponent with its 95 % interval."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fit", action="store_true", help="only print the stored exponents")
    if not parser.parse_args().fit:
        about = {
            "script": "benchmarks/exponents.py",
            "versions": {m.__name__: m.__version__ for m in (jax, np)}
            | {"python": platform.python_version()},
            "settings": {
                "hidden layers": 2,
                "N": N,
                "test points": TEST,
                "d": D,
                "sigma_w": SCALE,
                "sigma_b": 0,
                "time": TIME,
                "Runge-Kutta steps": STEPS,
                "seeds": SEEDS,
            },
            "quantities": QUANTITIES,
        }
        text = {"about": about, "widths": WIDTHS, "results": sweep()}
        OUT.parent.mkdir(exist_ok=True)
        OUT.write_text(json.dumps(text, ensure_ascii=False, indent=None) + "\n", encoding="utf-8")
    stored = json.loads(OUT.read_text(encoding="utf-8"))
    for name, quantities in stored["results"].items():
        for quantity, errors in quantities.items():
            mean, half = slope(errors)
            print(f"{name:5} {quantity:11} {mean:6.2f} ± {half:.2f}")


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    main()
