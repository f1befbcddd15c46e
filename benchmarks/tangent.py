"""The tangent kernel of a finite network beside neural-tangents 0.6.5, in one run.

    python benchmarks/tangent.py --out chapters/data/tangent.json

Three hidden layers of 512 ReLU units, 784 inputs, 10 outputs, float32, no biases. Each library
works in a process of its own, on the same weights and points, and the two take turns: a call of
one, then a call of the other, many times. The least of the times of each is what it can do on
this machine; the ratio of the two is what travels to another one.

The peer needs an environment of its own, which is made at the first run from
benchmarks/peer-requirements.txt: it works on nothing newer than JAX 0.4.25. It runs with its
fastest setting (structured derivatives, vmap_axes=0, inside jit); ours runs as it comes.
"""

import argparse
import itertools
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
PEER = ROOT / "_build" / "peer"
REQUIREMENTS = Path(__file__).with_name("peer-requirements.txt")

WIDTHS = (784, 512, 512, 512, 10)
SIZES = (64, 256)
OUTPUTS = ("trace", "full")
VERSIONS = {"ours": ("jax", "jaxlib"), "peer": ("neural-tangents", "jax", "jaxlib")}


def ours(weights: list[Any], x: Any, outputs: str) -> Callable[[], Any]:
    """Our kernel of these points, by default."""
    import jax

    from ntklib.tangent import tangent_kernel

    def apply(params: list[jax.Array], x: jax.Array) -> jax.Array:
        for w in params[:-1]:
            x = jax.nn.relu(x @ w / len(w) ** 0.5)
        return x @ params[-1] / len(params[-1]) ** 0.5

    kernel = tangent_kernel(apply, [jax.numpy.asarray(w) for w in weights], outputs=outputs)
    x = jax.numpy.asarray(x)
    return lambda: kernel(x).block_until_ready()


def peer(weights: list[Any], x: Any, outputs: str) -> Callable[[], Any]:
    """The peer's kernel of the same points, in its fastest setting."""
    import jax
    import neural_tangents as nt
    from neural_tangents import stax

    dense = [stax.Dense(w.shape[1]) for w in weights]
    layers = [dense[0]]
    for layer in dense[1:]:
        layers += [stax.Relu(), layer]
    init, apply, _ = stax.serial(*layers)
    _, params = init(jax.random.PRNGKey(0), (1, weights[0].shape[0]))
    form = jax.tree_util.tree_structure(params)
    params = jax.tree_util.tree_unflatten(form, [jax.numpy.asarray(w) for w in weights])
    structured = nt.NtkImplementation.STRUCTURED_DERIVATIVES
    kernel = jax.jit(
        nt.empirical_ntk_fn(
            apply,
            trace_axes=(-1,) if outputs == "trace" else (),
            vmap_axes=0,
            implementation=structured,
        )
    )
    x = jax.numpy.asarray(x)
    return lambda: kernel(x, None, params).block_until_ready()


def work(name: str, inputs: str, outputs: str) -> None:
    """A process of one library: each line on stdin asks for a call, stdout tells its seconds."""
    stored = np.load(inputs)
    weights = [stored[f"w{i}"] for i in range(len(WIDTHS) - 1)]
    run = {"ours": ours, "peer": peer}[name](weights, stored["x"], outputs)
    before = held()
    np.save(f"{inputs}.{name}.npy", np.asarray(run()))
    print("ready", flush=True)
    for _ in sys.stdin:
        begin, cpu = time.perf_counter(), time.process_time()
        run()
        print(time.perf_counter() - begin, time.process_time() - cpu, flush=True)
    told = {"peak_mb": held(), "peak_mb_before_the_first_call": before}
    print(json.dumps(told | {"versions": {p: version(p) for p in VERSIONS[name]}}), flush=True)


def held() -> int:
    """The most memory that this process ever held, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1000


def compare(n: int, outputs: str, rounds: int) -> dict[str, Any]:
    """One case: both libraries in turn."""
    draw = np.random.default_rng(0)
    shapes = itertools.pairwise(WIDTHS)
    arrays = {f"w{i}": draw.normal(size=s).astype(np.float32) for i, s in enumerate(shapes)}
    with tempfile.TemporaryDirectory() as folder:
        inputs = str(Path(folder) / "inputs.npz")
        np.savez(inputs, x=draw.normal(size=(n, WIDTHS[0])).astype(np.float32), **arrays)
        pythons = {"ours": Path(sys.executable), "peer": PEER / "bin" / "python"}
        environment = os.environ | {"JAX_PLATFORMS": "cpu", "TF_CPP_MIN_LOG_LEVEL": "3"}
        workers = {
            name: subprocess.Popen(
                [python, __file__, "--work", name, inputs, outputs],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                env=environment,
            )
            for name, python in pythons.items()
        }
        for name, worker in workers.items():
            if worker.stdout.readline() != "ready\n":
                raise RuntimeError(f"{name}: the process ended before its first call")
        seconds: dict[str, list[list[float]]] = {name: [] for name in workers}
        for _ in range(rounds):
            for name, worker in workers.items():
                worker.stdin.write("\n")
                worker.stdin.flush()
                seconds[name].append([float(t) for t in worker.stdout.readline().split()])
        told = {name: json.loads(worker.communicate()[0]) for name, worker in workers.items()}
        grams = {name: np.load(f"{inputs}.{name}.npy") for name in workers}
    apart = np.abs(grams["ours"] - grams["peer"]).max() / np.abs(grams["peer"]).max()
    if apart > 1e-5:
        raise RuntimeError(f"the two kernels differ by {apart:.1e} of the largest entry")
    case: dict[str, Any] = {"n": n, "outputs": outputs, "rounds": rounds}
    for name, times in seconds.items():
        wall, cpu = np.transpose(times)
        case[name] = told[name] | {
            "seconds": round(float(wall.min()), 5),
            "median_seconds": round(float(np.median(wall)), 5),
            "processor_seconds": round(float(cpu.min()), 5),
        }
    case["ratio"] = round(case["ours"]["seconds"] / case["peer"]["seconds"], 3)
    case["ratio_of_processor_seconds"] = round(
        case["ours"]["processor_seconds"] / case["peer"]["processor_seconds"], 3
    )
    return case


def main() -> None:
    """Run all cases, print a table, and store the numbers."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, help="a JSON file for the numbers")
    parser.add_argument("--rounds", type=int, default=25, help="calls of each library")
    parser.add_argument("--work", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.work:
        return work(*given.work)
    if not (PEER / "bin" / "python").exists():
        print("making the peer's environment; this is done once", flush=True)
        subprocess.run([sys.executable, "-m", "venv", PEER], check=True)
        pip = [PEER / "bin" / "python", "-m", "pip", "install", "--quiet", "-r", REQUIREMENTS]
        subprocess.run(pip, check=True)
    cases, load = [], round(os.getloadavg()[0], 1)
    for outputs in OUTPUTS:
        for n in SIZES:
            case = compare(n, outputs, given.rounds)
            cases.append(case)
            us, them = case["ours"], case["peer"]
            print(
                f"{outputs:6} n = {n:4}: ours {us['seconds']:.4f} s, peak {us['peak_mb']} MB; "
                f"peer {them['seconds']:.4f} s, peak {them['peak_mb']} MB; "
                f"ratio {case['ratio']}, of processor time {case['ratio_of_processor_seconds']}",
                flush=True,
            )
    report = {
        "provenance": {
            "script": "benchmarks/tangent.py",
            "python": platform.python_version(),
            "machine": platform.machine(),
            "cores": os.cpu_count(),
            "load at the start": load,
        },
        "network": f"ReLU, widths {WIDTHS}, NTK parametrisation, no biases, float32",
        "peer_setting": "STRUCTURED_DERIVATIVES, vmap_axes=0, inside jit",
        "seconds": "the least over the rounds, in which the two libraries take turns",
        "cases": cases,
    }
    if given.out:
        given.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
