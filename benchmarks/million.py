"""One million examples, 4,096 random features: time, memory and error beside three others.

    OPENBLAS_NUM_THREADS=2 python benchmarks/million.py --out chapters/data/million.json

Each model is fitted in a process of its own, which reports its seconds, its processor seconds
and the most memory that it held: random features on 10^4, 10^5 and 10^6 examples, with a linear
model on the same; exact kernel ridge regression on a part; scikit-learn's RBFSampler + Ridge on
the most examples whose features fit in 8 GiB, in float32 and in float64; ours on as many. The
examples are made tile by tile from a key. They are all different, and no more than a tile of them
is stored.

The pass over the examples may be interrupted and run again: --checkpoint names a file to go on
from. With --stages some of the models are fitted, and the others' results are kept.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy
import sklearn
from sklearn.kernel_approximation import RBFSampler
from sklearn.linear_model import Ridge

from ntklib.feature_ridge import Moments, RidgePath, moments
from ntklib.random_features import FeatureMap, RandomFunctions, random_features
from ntklib.rkhs import RBF, ridge

DIMENSION = 10
LENGTH = 4.0
NOISE = 0.5
ROWS = 2000
PENALTIES = [10.0**power for power in range(-6, 2)]
SIZES = (10_000, 100_000, 1_000_000)
EXACT = 5_000
PEER = {"float32": 400_000, "float64": 200_000}
LIMIT = 12 * 2**30


@jax.jit
def teacher(x: jax.Array) -> jax.Array:
    """Friedman's function of the first five coordinates of [−1, 1]^10, with mean 0 and size 1."""
    u = (x + 1) / 2
    value = 10 * jnp.sin(jnp.pi * u[:, 0] * u[:, 1]) + 20 * (u[:, 2] - 0.5) ** 2
    return (value + 10 * u[:, 3] + 5 * u[:, 4] - 14.4) / 4.88


class Examples(Sequence[tuple[np.ndarray, np.ndarray]]):
    """Tiles of noisy examples, made from a key and the tile's number when they are asked for."""

    def __init__(self, key: jax.Array, numbers: range) -> None:
        self.key, self.numbers = key, numbers

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, i: Any) -> Any:
        if isinstance(i, slice):
            return Examples(self.key, self.numbers[i])
        for_x, for_noise = jax.random.split(jax.random.fold_in(self.key, self.numbers[i]))
        x = jax.random.uniform(for_x, (ROWS, DIMENSION), jnp.float32, -1, 1)
        y = teacher(x) + NOISE * jax.random.normal(for_noise, (ROWS,), jnp.float32)
        return np.asarray(x), np.asarray(y)


def examples(n: int, seed: int = 0) -> Examples:
    """n examples; those of another seed are others."""
    return Examples(jax.random.key(seed), range(n // ROWS))


def together(data: Examples) -> tuple[np.ndarray, np.ndarray]:
    """All tiles in two arrays."""
    xs, ys = zip(*data, strict=True)
    return np.concatenate(xs), np.concatenate(ys)


def error(f: Callable[[np.ndarray], Any], data: Examples, *, noise: bool) -> float:
    """Root mean square of f − y, or of f − teacher without the noise."""
    squares = []
    for x, y in data:
        truth = np.asarray(y if noise else teacher(x), np.float64)
        squares.append(np.mean((np.asarray(f(x), np.float64) - truth) ** 2))
    return float(np.sqrt(np.mean(squares)))


def best_of(
    fit: Callable[[float], Callable[[np.ndarray], Any]], penalties: Sequence[float] = PENALTIES
) -> dict[str, float]:
    """The penalty with the least error on validation data, and its error on test data."""
    validation, test = examples(10_000, seed=1), examples(20_000, seed=2)
    penalty = min(penalties, key=lambda p: error(fit(p), validation, noise=True))
    return {"penalty": penalty, "error": error(fit(penalty), test, noise=False)}


def affine() -> FeatureMap:
    """x and 1: the features of a linear model."""
    return RandomFunctions(lambda _, x: jnp.hstack([x, jnp.ones_like(x[:, :1])]), ())


def streamed(
    sizes: Sequence[int] = SIZES, features: int = 4096, checkpoint: str | None = None
) -> dict[str, Any]:
    """Random features and a linear model, on the first n of the same examples for each n."""
    data = examples(max(sizes))
    maps = {
        "features": random_features(
            RBF(LENGTH), DIMENSION, features, jax.random.key(3), dtype=jnp.float32
        ),
        "linear": affine(),
    }
    found: dict[str, Any] = {"features": {}, "linear": {}}
    for name, phi in maps.items():
        total: Moments | None = None
        seconds = 0.0
        for begin, end in zip((0, *sizes), sizes, strict=False):
            start = time.perf_counter()
            part = data[begin // ROWS : end // ROWS]
            file = f"{checkpoint}.{name}.{end}" if checkpoint else None
            shard = moments(phi, part, progress=True, checkpoint=file)
            total = shard if total is None else total + shard
            seconds += time.perf_counter() - start
            start = time.perf_counter()
            path = RidgePath(phi, total)
            solving = time.perf_counter() - start
            found[name][str(end)] = {
                **best_of(path),
                "seconds of the pass": round(seconds, 1),
                "seconds of the factorisation": round(solving, 1),
            }
    return found


def exact(n: int = EXACT) -> dict[str, Any]:
    """Kernel ridge regression with the kernel that the features sample."""
    jax.config.update("jax_enable_x64", True)
    x, y = (a.astype(np.float64) for a in together(examples(n)))
    seconds = []

    def fit(penalty: float) -> Callable[[np.ndarray], Any]:
        start = time.perf_counter()
        f = ridge(RBF(LENGTH), x, y, penalty)
        f.coefficients.block_until_ready()
        seconds.append(time.perf_counter() - start)
        return lambda points: f(points.astype(np.float64))

    return {"n": n, **best_of(fit), "seconds of one fit": round(min(seconds), 1)}


def peer(n: int, dtype: str, features: int = 4096) -> dict[str, Any]:
    """scikit-learn's RBFSampler and Ridge, with every other penalty: each costs a pass of its own.

    Where its Cholesky factorisation fails it goes over to the singular values of all features,
    for which the memory is not there: such a penalty is noted, and passed over.
    """
    x, y = (a.astype(dtype) for a in together(examples(n)))
    start = time.perf_counter()
    sampler = RBFSampler(gamma=0.5 / LENGTH**2, n_components=features, random_state=0).fit(x)
    phi = sampler.transform(x)
    sampled = time.perf_counter() - start
    seconds: list[float] = []
    models: dict[float, Ridge] = {}
    failed = []
    for penalty in PENALTIES[::2]:
        start = time.perf_counter()
        model = Ridge(alpha=penalty, fit_intercept=False, solver="cholesky", copy_X=False)
        try:
            models[penalty] = model.fit(phi, y)
        except MemoryError:
            failed.append(penalty)
        else:
            seconds.append(time.perf_counter() - start)

    def fit(penalty: float) -> Callable[[np.ndarray], Any]:
        return lambda x: models[penalty].predict(sampler.transform(x.astype(dtype)))

    return {
        "n": n,
        "dtype": str(phi.dtype),
        "penalties for which it failed": failed,
        **best_of(fit, sorted(models)),
        "seconds of the features": round(sampled, 1),
        "seconds of one fit": round(min(seconds), 1),
    }


def ours(n: int, features: int = 4096) -> dict[str, Any]:
    """What `peer` does, by `ntklib`."""
    return {"n": n, **streamed((n,), features)["features"][str(n)]}


STAGES = {"streamed": streamed, "exact": exact, "peer": peer, "ours": ours}


def alone(stage: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Run one stage in a fresh process; with it what the whole process took."""
    command = [sys.executable, __file__, "--stage", stage, json.dumps(arguments)]
    start = time.perf_counter()
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return {**result, "wall seconds of the process": round(time.perf_counter() - start, 1)}


def provenance() -> dict[str, Any]:
    """With what, and on what, the numbers were made."""
    versions = {m.__name__: m.__version__ for m in (jax, np, scipy, sklearn)}
    return {
        "script": "benchmarks/million.py",
        "python": platform.python_version(),
        "versions": versions,
        "machine": platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "BLAS threads": os.environ.get("OPENBLAS_NUM_THREADS", "all"),
        "teacher": "Friedman's function, d = 10, noise 0.5",
        "kernel": f"RBF, length {LENGTH:g}",
    }


def main() -> None:
    """Run all stages, and write what they found after each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--examples", type=int, default=SIZES[-1], help="at most this many")
    parser.add_argument("--features", type=int, default=4096)
    parser.add_argument("--checkpoint", help="a file name to which more is added")
    parser.add_argument("--out", help="a JSON file for the results")
    parser.add_argument("--stages", nargs="+", help="only these, by their names in the results")
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
    sizes = [n for n in SIZES if n <= given.examples]
    some = {dtype: min(n, given.examples) for dtype, n in PEER.items()}
    width = {"features": given.features}
    plan: dict[str, tuple[str, dict[str, Any]]] = {
        "streamed": ("streamed", {"sizes": sizes, "checkpoint": given.checkpoint, **width}),
        "exact": ("exact", {"n": min(EXACT, given.examples)}),
        "peer": ("peer", {"n": some["float32"], "dtype": "float32", **width}),
        "peer in float64": ("peer", {"n": some["float64"], "dtype": "float64", **width}),
        "ours": ("ours", {"n": some["float32"], **width}),
    }
    results: dict[str, Any] = {}
    if given.out and os.path.exists(given.out):
        with open(given.out, encoding="utf-8") as file:
            results = json.load(file)
    results |= {"provenance": provenance(), "features": given.features}
    for name, (stage, arguments) in plan.items():
        if given.stages and name not in given.stages:
            continue
        load = round(os.getloadavg()[0], 1)
        results[name] = {**alone(stage, arguments), "load at the start": load}
        print(name, json.dumps(results[name], indent=1), flush=True)
        if given.out:
            with open(given.out, "w", encoding="utf-8") as file:
                json.dump(results, file, indent=1)
                file.write("\n")


if __name__ == "__main__":
    main()
