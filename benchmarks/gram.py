"""Gram matrices of infinitely wide networks beside neural-tangents 0.6.5, in one run.

    python benchmarks/gram.py --out chapters/data/gram.json

Points of 784 coordinates; ReLU with 1, 3 and 10 hidden layers, erf and GELU with 3, in float32
and float64. Side by side stand `ntklib.gram`; the peer in the environment that it was made for; the
peer on current JAX, with the names that it misses restored from outside (benchmarks/restored.py);
and the textbook formula, written in five lines and compiled. For the RBF kernel the peer is
scikit-learn. Each works in a
process of its own and they take turns: a call of one, then a call of the next, many times. The
least of the times of each is what it can do on this machine; the ratio travels to another one.

All are compared with the layer-by-layer recursion in float64 on 300 of the points.

The peer needs an environment of its own, which is made at the first run from
benchmarks/peer-requirements.txt: it works on nothing newer than JAX 0.4.25, which has wheels for
Python 3.9 to 3.12.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

ROOT = Path(__file__).parents[1]
PEER = ROOT / "_build" / "peer"
RESTORED = ROOT / "_build" / "restored"
REQUIREMENTS = Path(__file__).with_name("peer-requirements.txt")

DIMENSION = 784
SAMPLE = 300
W, B = 2**0.5, 0.1


class Case(NamedTuple):
    """What is computed: activation, number of hidden layers, number of points, dtype."""

    phi: str
    hidden: int
    n: int
    dtype: str = "float32"

    @property
    def bias(self) -> float | None:
        """ReLU goes without biases, as in most papers; the others have some."""
        return None if self.phi == "relu" else B


CASES = [
    *(Case("relu", hidden, n) for n in (4000, 8000) for hidden in (1, 3, 10)),
    Case("erf", 3, 8000),
    Case("gelu", 3, 2000),
    Case("rbf", 0, 8000),
    Case("relu", 3, 2000, "float64"),
]


def network(stax: Any, case: Case) -> Any:
    """The same lines for both libraries, whose names are the same."""
    phi = {"relu": stax.Relu, "erf": stax.Erf, "gelu": stax.Gelu}[case.phi]
    dense = stax.Dense(1, W, case.bias)
    return stax.serial(*[dense, phi()] * case.hidden, dense)


def ours(case: Case, x: Any) -> Callable[[], Any]:
    """`ntklib.gram`, as it comes."""
    from ntklib import deep_ntk
    from ntklib.gram import gram
    from ntklib.stationary import RBF

    kernel = RBF(DIMENSION**0.5) if case.phi == "rbf" else network(deep_ntk, case).ntk
    return lambda: gram(kernel, x)


def truth(case: Case, x: Any) -> Callable[[], Any]:
    """The general recursion, layer by layer, in float64."""
    from ntklib import deep_ntk
    from ntklib.stationary import RBF

    kernel = RBF(DIMENSION**0.5) if case.phi == "rbf" else network(deep_ntk, case).ntk
    return lambda: np.asarray(kernel(x.astype(np.float64)))


def peer(case: Case, x: Any) -> Callable[[], Any]:
    """neural-tangents inside jit, its fastest form; scikit-learn for the RBF kernel."""
    if case.phi == "rbf":
        from sklearn.metrics.pairwise import rbf_kernel

        return lambda: rbf_kernel(x, gamma=0.5 / DIMENSION)
    import jax
    from neural_tangents import stax

    kernel_fn = network(stax, case)[2]
    kernel = jax.jit(lambda x: kernel_fn(x, None, "ntk"))
    x = jax.numpy.asarray(x)
    return lambda: kernel(x).block_until_ready()


def restored(case: Case, x: Any) -> Callable[[], Any]:
    """neural-tangents on current JAX."""
    sys.path[:0] = [str(RESTORED), str(ROOT / "benchmarks")]
    import restored

    restored.names()
    return peer(case, x)


def plain(case: Case, x: Any) -> Callable[[], Any]:
    """The textbook formulas, compiled as a whole."""
    import jax
    import jax.numpy as jnp

    def dual(q: Any, c: Any) -> tuple[Any, Any]:
        if case.phi == "relu":
            size = jnp.sqrt(q[:, None] * q)
            angle = jnp.arccos(jnp.clip(c / size, -1, 1))
            arc = jnp.sin(angle) + (jnp.pi - angle) * jnp.cos(angle)
            return size * arc / (2 * jnp.pi), (jnp.pi - angle) / (2 * jnp.pi)
        if case.phi == "erf":
            product = (1 + 2 * q[:, None]) * (1 + 2 * q)
            value = jnp.arcsin(2 * c / jnp.sqrt(product)) * (2 / jnp.pi)
            return value, 4 / (jnp.pi * jnp.sqrt(product - 4 * c**2))
        q1, q2 = q[:, None], q[None]
        d, i = (1 + q1) * (1 + q2) - c**2, 1 / (1 + q1) + 1 / (1 + q2)
        angle = jnp.arctan2(c, jnp.sqrt(d))
        value = c / 4 + (c * angle + (q1 * q2 + c**2 * (i - 1)) / jnp.sqrt(d)) / (2 * jnp.pi)
        return value, 0.25 + (angle + c / jnp.sqrt(d) * (1 / d + i)) / (2 * jnp.pi)

    @jax.jit
    def kernel(x: Any) -> Any:
        if case.phi == "rbf":
            square = (x * x).sum(1)
            return jnp.exp(-(square[:, None] + square - 2 * x @ x.T) / (2 * DIMENSION))
        b = (case.bias or 0.0) ** 2
        c = W**2 * (x @ x.T) / DIMENSION + b
        theta = c
        for _ in range(case.hidden):
            value, slope = dual(jnp.diag(c), c)
            c = W**2 * value + b
            theta = c + W**2 * slope * theta
        return theta

    x = jax.numpy.asarray(x)
    return lambda: kernel(x).block_until_ready()


RUNNERS = {"ours": ours, "peer": peer, "restored": restored, "plain": plain, "truth": truth}


def points(case: Case) -> Any:
    """Standard normal points."""
    draw = np.random.default_rng(case.n)
    return draw.normal(size=(case.n, DIMENSION)).astype(case.dtype)


def work(name: str, folder: str) -> None:
    """A process of one library: a case on stdin readies it, an empty line asks for a call."""
    run: Callable[[], Any] = dict
    for line in sys.stdin:
        if line.strip():
            case = Case(*json.loads(line))
            if case.phi != "rbf" or name != "peer":
                import jax

                jax.config.update("jax_enable_x64", case.dtype == "float64" or name == "truth")
            x = points(case)
            run = RUNNERS[name](case, x[:SAMPLE] if name == "truth" else x)
            values = np.asarray(run())[:SAMPLE, :SAMPLE]
            np.save(Path(folder) / f"{name}.npy", values)
            print("ready", flush=True)
        else:
            begin, cpu = time.perf_counter(), time.process_time()
            run()
            print(time.perf_counter() - begin, time.process_time() - cpu, flush=True)
    packages = ("neural-tangents", "jax", "jaxlib", "numpy", "scikit-learn")
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    print(json.dumps(found), flush=True)


def start(name: str, python: Path, folder: str) -> "subprocess.Popen[str]":
    """A worker."""
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "TF_CPP_MIN_LOG_LEVEL": "3"}
    return subprocess.Popen(
        [python, __file__, "--work", name, folder],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment,
    )


def ask(worker: "subprocess.Popen[str]", line: str) -> str:
    """One line to a worker, one line from it."""
    assert worker.stdin
    assert worker.stdout
    worker.stdin.write(line + "\n")
    worker.stdin.flush()
    answer = worker.stdout.readline()
    if not answer:
        raise RuntimeError("a worker ended early")
    return answer


def compare(case: Case, rounds: int) -> dict[str, Any]:
    """One case: all in turn."""
    theirs = Path(sys.executable) if case.phi == "rbf" else PEER / "bin" / "python"
    here = Path(sys.executable)
    pythons = {"ours": here, "peer": theirs, "restored": here, "plain": here, "truth": here}
    if case.phi == "rbf":
        del pythons["restored"]
    told: dict[str, Any] = {**case._asdict(), "rounds": rounds}
    told["load"] = round(os.getloadavg()[0], 1)
    with tempfile.TemporaryDirectory() as folder:
        workers = {name: start(name, python, folder) for name, python in pythons.items()}
        for worker in workers.values():
            ask(worker, json.dumps(case))
        timed = [name for name in workers if name != "truth"]
        times: dict[str, list[list[float]]] = {name: [] for name in timed}
        for _ in range(rounds):
            for name in timed:
                times[name].append([float(t) for t in ask(workers[name], "").split()])
        ends = {name: worker.communicate()[0] for name, worker in workers.items()}
        values = {name: np.load(Path(folder) / f"{name}.npy") for name in workers}
    exact = values["truth"]
    for name in timed:
        wall, cpu = np.transpose(times[name])
        error = np.abs(values[name].astype(np.float64) - exact) / np.abs(exact).max()
        told[name] = {
            "seconds": round(float(wall.min()), 4),
            "median_seconds": round(float(np.median(wall)), 4),
            "processor_seconds": round(float(cpu.min()), 4),
            "largest_error": float(f"{error.max():.2g}"),
            "largest_error_off_diagonal": float(
                f"{error[~np.eye(len(error), dtype=bool)].max():.2g}"
            ),
            "versions": json.loads(ends[name]),
        }
    for other in timed[1:]:
        ratio = told[other]["seconds"] / told["ours"]["seconds"]
        paired = np.median([p[0] / o[0] for p, o in zip(times[other], times["ours"], strict=True)])
        told[f"{other}_over_ours"] = round(ratio, 2)
        told[f"{other}_over_ours_median_of_rounds"] = round(float(paired), 2)
    return told


def machine() -> dict[str, float]:
    """What this machine can do: products, polynomials in a cache, and writing, in float32.

    Operations or bytes in a second, on all cores, the best of a few; the floor of `ours`.
    """
    import threading

    import jax
    import jax.numpy as jnp

    from ntklib._tiles import cores

    x = jnp.asarray(points(Case("relu", 3, 4000)))
    product = jax.jit(lambda a: a @ a.T)
    tile = jnp.full((256, 256), 0.5, jnp.float32)

    @jax.jit
    def polynomial(u: Any) -> Any:
        # 500 operations on each entry, as in a layer: one multiplication and one addition each.
        for _ in range(250):
            u = u * 0.5 + 0.25
        return u

    def best(run: Callable[[], Any], times: int = 7) -> float:
        found = []
        run()
        for _ in range(times):
            begin = time.perf_counter()
            run()
            found.append(time.perf_counter() - begin)
        return min(found)

    def on_all_cores() -> None:
        def repeat() -> None:
            for _ in range(20):
                polynomial(tile).block_until_ready()

        threads = [threading.Thread(target=repeat) for _ in range(cores())]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    big = np.zeros(2**26, np.float32)
    return {
        "product_per_second": 2
        * 4000**2
        * DIMENSION
        / best(lambda: product(x).block_until_ready()),
        "polynomial_per_second": cores() * 20 * 500 * 256**2 / best(on_all_cores),
        "bytes_written_per_second": big.nbytes / best(lambda: big.fill(1.0)),
    }


def environment() -> None:
    """Make the peer's environment if it is not there, and a folder of its package alone."""
    if not (PEER / "bin" / "python").exists():
        install()
    RESTORED.mkdir(exist_ok=True)
    for package in ("neural_tangents", "frozendict"):
        link = RESTORED / package
        if not link.exists():
            link.symlink_to(next(PEER.glob(f"lib/python3*/site-packages/{package}")))


def install() -> None:
    """The peer with its pins, in an environment of its own."""
    print("making the peer's environment (Python 3.9 to 3.12); this is done once", flush=True)
    if sys.version_info >= (3, 13):
        raise SystemExit("the peer needs Python 3.9 to 3.12: make the environment with one of them")
    subprocess.run([sys.executable, "-m", "venv", PEER], check=True)
    pip = [PEER / "bin" / "python", "-m", "pip", "install", "--quiet", "-r", REQUIREMENTS]
    subprocess.run(pip, check=True)


def main() -> None:
    """Run the cases, print a line for each, and store the numbers after each."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, help="a JSON file for the numbers")
    parser.add_argument(
        "--rounds", type=int, default=9, help="calls of each, half as many of 8,000 points"
    )
    parser.add_argument("--only", nargs="+", help="these activations alone")
    parser.add_argument("--work", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.work:
        return work(*given.work)
    environment()
    report: dict[str, Any] = {
        "provenance": {
            "script": "benchmarks/gram.py",
            "python": platform.python_version(),
            "machine": platform.machine(),
            "cores": os.cpu_count(),
        },
        "seconds": "the least over the rounds, in which the processes take turns",
        "machine": machine(),
        "cases": [],
    }
    for case in CASES:
        if given.only and case.phi not in given.only:
            continue
        told = compare(case, given.rounds if case.n < 8000 else (given.rounds + 1) // 2)
        report["cases"].append(told)
        us, them, text = told["ours"], told["peer"], told["plain"]
        print(
            f"{case.phi:4} {case.hidden:2} hidden, n = {case.n}, {case.dtype}: "
            f"ours {us['seconds']} s, peer {them['seconds']} s ({told['peer_over_ours']}), "
            f"on current JAX {told.get('restored_over_ours')} times ours, "
            f"plain {text['seconds']} s ({told['plain_over_ours']}); errors "
            f"{us['largest_error']}, {them['largest_error']}, {text['largest_error']}; "
            f"load {told['load']}",
            flush=True,
        )
        if given.out:
            given.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
