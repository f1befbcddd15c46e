"""Over a mesh, in one process or two, the matrix and the solution are those of one device."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from helpers import assert_close, once, refused

from ntklib.gram import gram
from ntklib.matrix_kernels import Gradient
from ntklib.sharded import Sharded, sharded_gram
from ntklib.solve import solve
from ntklib.stationary import RBF

FLOAT = "float64" if jax.config.jax_enable_x64 else "float32"
WORKER = Path(__file__).with_name("distributed_worker.py")


def data(n: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.standard_normal((n, 3)).astype(FLOAT), rng.standard_normal((n, 2)).astype(FLOAT)


def test_one_device_is_a_mesh_too() -> None:
    x, y = data(50)
    mesh = jax.make_mesh((1,), ("rows",))
    assert_close(sharded_gram(RBF(), x, mesh=mesh, tile=16), gram(RBF(), x))
    assert_close(sharded_gram(RBF(), x, x[:7], mesh=mesh, tile=64), gram(RBF(), x, x[:7]))
    wanted = solve(RBF(), x, y, ridge=1.0, method="cg")
    found = solve(RBF(), x, y, ridge=1.0, mesh=mesh)
    assert found.method == "cg"
    assert "over 1 devices of 1 processes" in found.why
    np.testing.assert_allclose(found.coefficients, wanted.coefficients, rtol=1e-3, atol=1e-5)
    operator = Sharded(RBF(), x, mesh)
    np.testing.assert_allclose(operator.columns(np.array([3, 1])), gram(RBF(), x)[:, [3, 1]], 1e-5)
    with refused(ValueError, "kernel: expected a scalar one, got values of shape (3, 3)"):
        sharded_gram(Gradient(RBF()), x, mesh=mesh)
    with refused(ValueError, "method: over a mesh it is \"cg\", got 'falkon'"):
        solve(RBF(), x, y, ridge=1.0, mesh=mesh, method="falkon")


def started(path: str, mode: str) -> list[subprocess.Popen]:
    """Two processes that know each other by a free port of this machine."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    environment = {k: v for k, v in os.environ.items() if k != "JAX_ENABLE_X64"}
    return [
        subprocess.Popen(
            [sys.executable, WORKER, address, "2", str(index), path, mode],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for index in range(2)
    ]


@pytest.mark.skipif(FLOAT == "float32", reason="the processes compute in float64")
@once
def test_two_processes_with_two_devices_each_are_one(tmp_path: Path) -> None:
    x, y = data(203)  # no multiple of four
    path = str(tmp_path / "data")
    np.savez(path + ".npz", x=x, y=y)
    processes = started(path, "solve")
    told = [process.communicate(timeout=200) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], told
    assert all("over 4 devices of 2 processes" in out for out, _ in told)
    wanted = solve(RBF(), x, y, ridge=0.1, method="cg", rank=20, tolerance=1e-13)
    for index in range(2):
        found = np.load(f"{path}.{index}.npz")
        for name, value in (("coefficients", wanted.coefficients), ("product", gram(RBF(), x) @ y)):
            assert np.abs(found[name] - value).max() < 1e-12 * np.abs(value).max()


@pytest.mark.skipif(FLOAT == "float32", reason="the processes compute in float64")
@once
def test_when_a_process_is_killed_the_other_ends_and_says_why(tmp_path: Path) -> None:
    x, y = data(203)
    path = str(tmp_path / "data")
    np.savez(path + ".npz", x=x, y=y)
    other, killed = started(path, "die")
    out, err = other.communicate(timeout=120)
    killed.communicate(timeout=10)
    assert killed.returncode == -9
    assert "ready" in out
    assert other.returncode != 0
    assert "mesh: a product over the devices failed" in err, err
