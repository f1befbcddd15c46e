"""Kernel ridge regression with a deep NTK: 20,000 points beside SciPy, then 10^4, 10^5, 10^6.

    OPENBLAS_NUM_THREADS=2 python benchmarks/solve.py --out chapters/data/solve.json

The kernel is the NTK of a ReLU network with three hidden layers and biases; the examples are
Friedman's function on [−1, 1]^10 with noise, all different. At 20,000 points `solve` stands
beside SciPy's Cholesky and scikit-learn's KernelRidge, which get the Gram matrix that `gram`
made. Then `solve` alone, with its own choice of method up to 10^4 points and inducing points
beyond, beside a linear model: time, memory, error.

Each stage works in a fresh process, and its numbers are written when it ends. With --stages some
are run, and the others' numbers are kept. A killed million goes on from --checkpoint.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import scipy
import scipy.linalg
import sklearn
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import LinearRegression

from ntklib.gram import gram
from ntklib.relu_network import ReluNetwork
from ntklib.solve import Solution, solve

DIMENSION = 10
NOISE = 0.5
KERNEL = ReluNetwork(3, W_std=2**0.5, b_std=0.3)
RIDGES = [0.1, 0.3, 1.0, 3.0, 10.0]
LIMIT = 16 * 2**30


def teacher(x: np.ndarray) -> np.ndarray:
    """Friedman's function of the first five coordinates of [−1, 1]^10, with mean 0 and size 1."""
    u = (x.astype(np.float64) + 1) / 2
    value = 10 * np.sin(np.pi * u[:, 0] * u[:, 1]) + 20 * (u[:, 2] - 0.5) ** 2
    return np.asarray((value + 10 * u[:, 3] + 5 * u[:, 4] - 14.4) / 4.88)


def examples(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """n noisy examples; of one seed, the first n of a longer list."""
    for_x, for_noise = (np.random.default_rng([seed, part]) for part in range(2))
    x = for_x.uniform(-1, 1, size=(n, DIMENSION)).astype(np.float32)
    return x, (teacher(x) + NOISE * for_noise.normal(size=n)).astype(np.float32)


def error(f: Callable[[np.ndarray], Any], seed: int, n: int, *, noise: bool) -> float:
    """Root mean square of f − y, or of f − teacher without the noise."""
    x, y = examples(n, seed)
    truth = y if noise else teacher(x)
    return float(np.sqrt(np.mean((np.asarray(f(x), np.float64) - truth) ** 2)))


def sized(
    n: int,
    ridges: list[float],
    rank: int | None = None,
    iterations: int = 30,
    checkpoint: str | None = None,
) -> dict[str, Any]:
    """`solve` on n examples: of the ridges the one with the least error on validation data."""
    x, y = examples(n)
    method = "auto" if n <= 10_000 else "falkon"
    start = time.perf_counter()
    found: list[Solution] = solve(
        KERNEL,
        x,
        y,
        ridge=ridges,
        method=method,
        rank=rank,
        tolerance=1e-3 if method == "falkon" else None,
        iterations=iterations,
        checkpoint=checkpoint,
        progress=True,
    )
    seconds = time.perf_counter() - start
    best = min(found, key=lambda f: error(f, 1, 5000, noise=True))
    linear = LinearRegression().fit(x, y)
    return {
        "n": n,
        "ridges": ridges,
        "ridge": best.ridge,
        "method": best.method,
        "why": best.why,
        "inducing points": len(best.centres),
        "iterations": best.iterations,
        "residual": float(f"{best.residual:.2g}"),
        "converged": best.converged,
        "error": round(error(best, 2, 20_000, noise=False), 5),
        "error of the linear model": round(error(linear.predict, 2, 20_000, noise=False), 5),
        "seconds of solve": round(seconds, 1),
    }


def matched(name: str, n: int, ridge: float) -> dict[str, Any]:
    """One way to solve the same system, the Gram matrix counted with it."""
    x, y = examples(n)
    start = time.perf_counter()
    told: dict[str, Any] = {}
    if name.startswith("ours"):
        method = "auto" if name == "ours" else "cholesky"
        f = solve(KERNEL, x, y, ridge=ridge, method=method)
        told = {"why": f.why, "iterations": f.iterations, "residual": float(f"{f.residual:.2g}")}
        predict: Callable[[np.ndarray], Any] = f
    else:
        matrix = gram(KERNEL, x)
        told["seconds of the Gram matrix"] = round(time.perf_counter() - start, 2)
        if name == "scipy":
            matrix[np.diag_indices(n)] += np.float32(ridge)
            factor = scipy.linalg.cho_factor(matrix.T, overwrite_a=True, check_finite=False)
            alpha = scipy.linalg.cho_solve(factor, y)
        else:
            alpha = KernelRidge(alpha=ridge, kernel="precomputed").fit(matrix, y).dual_coef_

        def predict(points: np.ndarray) -> Any:
            return gram(KERNEL, points, x) @ alpha

    seconds = time.perf_counter() - start
    return {
        "n": n,
        "ridge": ridge,
        **told,
        "seconds": round(seconds, 2),
        "error": round(error(predict, 2, 5000, noise=False), 5),
    }


STAGES = {"sized": sized, "matched": matched}


def alone(stage: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Run one stage in a fresh process; with it what the whole process took."""
    command = [sys.executable, __file__, "--stage", stage, json.dumps(arguments)]
    start, load = time.perf_counter(), round(os.getloadavg()[0], 1)
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    wall = round(time.perf_counter() - start, 1)
    return {**result, "wall seconds of the process": wall, "load at the start": load}


def main() -> None:
    """Run the stages, and write what they found after each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="a JSON file for the results")
    parser.add_argument("--stages", nargs="+", help="only these, by their names in the results")
    parser.add_argument("--beside", type=int, default=20_000, help="points beside SciPy")
    parser.add_argument("--rank", type=int, default=4000, help="inducing points at 10^6")
    parser.add_argument("--checkpoint", help="a file name to which more is added")
    parser.add_argument("--stage", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.stage:
        stage, arguments = given.stage
        resource.setrlimit(resource.RLIMIT_DATA, (LIMIT, LIMIT))
        result = STAGES[stage](**json.loads(arguments))
        usage = resource.getrusage(resource.RUSAGE_SELF)
        result["peak GiB"] = round(usage.ru_maxrss / 2**20, 2)
        result["processor seconds"] = round(usage.ru_utime + usage.ru_stime, 1)
        print(json.dumps(result))
        return
    million = {"n": 10**6, "ridges": [1.0], "rank": given.rank, "checkpoint": given.checkpoint}
    plan: dict[str, tuple[str, dict[str, Any]]] = {
        "10000": ("sized", {"n": 10**4, "ridges": RIDGES}),
        "100000": ("sized", {"n": 10**5, "ridges": [1.0, 3.0]}),
        **{
            name: ("matched", {"name": name, "n": given.beside, "ridge": 1.0})
            for name in ("ours", "scipy", "scikit-learn", "ours by Cholesky")
        },
        "1000000": ("sized", million),
    }
    results: dict[str, Any] = {}
    if given.out and given.out.exists():
        results = json.loads(given.out.read_text(encoding="utf-8"))
    results["provenance"] = {
        "script": "benchmarks/solve.py",
        "python": platform.python_version(),
        "versions": {m.__name__: m.__version__ for m in (jax, np, scipy, sklearn)},
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "BLAS threads": os.environ.get("OPENBLAS_NUM_THREADS", "all"),
        "teacher": f"Friedman's function, d = {DIMENSION}, noise {NOISE}",
        "kernel": "ReLU NTK, 3 hidden layers, W_std √2, b_std 0.3, float32",
    }
    for name, (stage, arguments) in plan.items():
        if given.stages and name not in given.stages:
            continue
        results[name] = alone(stage, arguments)
        print(name, json.dumps(results[name], indent=1), flush=True)
        if given.out:
            given.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
