"""Gram matrices in tiles are the kernel's own, in memory and on disk, through kills and damage."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_close, once, refused
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics.pairwise import rbf_kernel

from ntklib._tiles import spread
from ntklib.gram import default_tile, gram, open_gram
from ntklib.kernels import Linear, Polynomial
from ntklib.matrix_kernels import Gradient
from ntklib.stationary import RBF, Laplace

FLOAT = "float64" if jax.config.jax_enable_x64 else "float32"


def points(n: int, d: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, d)).astype(FLOAT)


KERNELS = {
    "rbf": RBF(1.5),
    "laplace": Laplace(2.0),
    "polynomial": Polynomial(2) + 0.5 * Linear(),
    "gradient": Gradient(RBF(1.5)),
}


@pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS.keys())
@pytest.mark.parametrize(("n", "tile"), [(1, 4), (7, 7), (7, 16), (30, 4), (32, 8)])
def test_tiles_give_the_matrix_of_the_kernel(kernel, n: int, tile: int) -> None:
    x = points(n)
    found = gram(kernel, x, tile=tile)
    assert isinstance(found, np.ndarray)
    assert found.dtype == FLOAT
    assert_close(found, kernel(x), times=10)
    mirrored = found.T if found.ndim == 2 else found.transpose(1, 0, 3, 2)
    np.testing.assert_array_equal(found, mirrored)


@pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS.keys())
@pytest.mark.parametrize(("n1", "n2"), [(1, 9), (9, 1), (13, 22)])
def test_tiles_between_two_batches(kernel, n1: int, n2: int) -> None:
    x1, x2 = points(n1), points(n2, seed=1)
    assert_close(gram(kernel, x1, x2, tile=8), kernel(x1, x2), times=10)


@settings(max_examples=25)
@given(n=st.integers(1, 40), tile=st.sampled_from([1, 3, 8, 16, 64]), workers=st.integers(1, 3))
def test_no_size_of_tile_nor_number_of_workers_changes_a_value(n, tile, workers) -> None:
    # Integers: every order of summation gives the same bits.
    x = np.random.default_rng(n).integers(-5, 5, (n, 3)).astype(FLOAT)

    def kernel(x1, x2=None):
        return (np.asarray(x1) @ np.asarray(x1 if x2 is None else x2).T + 1) ** 2

    np.testing.assert_array_equal(gram(kernel, x, tile=tile, workers=workers), kernel(x))


def test_within_a_batch_the_kernel_is_asked_without_second_points() -> None:
    """So that a kernel which knows its diagonal exactly can set it."""

    def kernel(x1, x2=None):
        values = x1 @ (x1 if x2 is None else x2).T
        return (
            values.at[jnp.arange(len(x1)), jnp.arange(len(x1))].set(7.0) if x2 is None else values
        )

    np.testing.assert_array_equal(np.diag(gram(kernel, points(20), tile=6)), 7.0)


def test_what_the_kernel_rounds_differently_in_the_lower_half_is_not_kept() -> None:
    def kernel(x1, x2=None):
        values = x1 @ (x1 if x2 is None else x2).T
        return values + jnp.tril(jnp.full_like(values, 1e-3), -1)

    found = gram(kernel, points(20), tile=32)
    np.testing.assert_array_equal(found, found.T)
    assert_close(found, points(20) @ points(20).T)


def test_a_function_of_numpy_arrays_is_called_as_it_is() -> None:
    x = points(30)

    def kernel(x1, x2=None):
        return rbf_kernel(x1, x2, gamma=0.5)

    assert_close(gram(kernel, x, tile=8), RBF(1.0)(x), times=10)


def test_an_array_may_be_given_to_be_filled() -> None:
    x, out = points(10), np.zeros((10, 10), FLOAT)
    assert gram(RBF(), x, out=out, tile=4) is out
    assert_close(out, RBF()(x))
    with refused(ValueError, f"out: expected (9, 9) {FLOAT}, got (10, 10) {FLOAT}"):
        gram(RBF(), x[:9], out=out)


def test_a_tile_takes_400_kibibytes() -> None:
    assert default_tile(np.dtype("float32")) == 320
    assert default_tile(np.dtype("float64")) == 224
    assert default_tile(np.dtype("float32"), 10, 10) == 32
    assert default_tile(np.dtype("float64"), 1000, 1000) == 16


def test_progress_is_told_on_stderr_if_asked(capsys) -> None:
    gram(RBF(), points(9), tile=4)
    assert capsys.readouterr() == ("", "")
    gram(RBF(), points(9), tile=4, progress=True)
    told = capsys.readouterr()
    assert told.out == ""
    assert "6/6" in told.err


# --- refusals


def test_bad_points_and_sizes_are_refused() -> None:
    x = points(5)
    with refused(ValueError, "x1: expected shape (n, d), got (5,)" + HINT):
        gram(RBF(), x[:, 0])
    with refused(ValueError, "x2: expected shape (n, 3), got (5, 2)"):
        gram(RBF(), x, x[:, :2])
    with refused(TypeError, "x1: expected float32 or float64, got int64"):
        gram(RBF(), np.arange(6).reshape(3, 2))
    with refused(ValueError, "x1: 1 of 15 entries are NaN or infinite"):
        gram(RBF(), np.where(np.arange(15).reshape(5, 3) == 4, np.nan, x).astype(FLOAT))
    for name in ("tile", "workers"):
        with refused(ValueError, f"{name}: expected an integer ≥ 1, got 0"):
            gram(RBF(), x, **{name: 0})
    with refused(ValueError, "chunk: expected None for a matrix in memory, got 8"):
        gram(RBF(), x, chunk=8)


HINT = "; one-dimensional points are a column, x[:, None]"


def test_bad_values_are_refused_and_their_place_is_told() -> None:
    x = points(10)
    x[6] = 50.0
    place = "between rows 0 to 3 and 4 to 7"
    with refused(ValueError, f"kernel(x1, x2): NaN or infinite values {place}"):
        gram(lambda a, b=None: jnp.exp((a @ (a if b is None else b).T) ** 2), x, tile=4, workers=1)
    with refused(
        ValueError,
        "kernel(x1, x2): expected shape (n1, n2) or (n1, n2, m, m), got (1, 1, 3) for one point "
        "and one point",
    ):
        gram(lambda a, b=None: a[:, None] * (a if b is None else b)[None], x)
    with refused(TypeError, f"kernel(x1, x2): expected {FLOAT}, as the points, got int32"):
        gram(lambda a, b=None: jnp.ones((len(a), len(a if b is None else b)), jnp.int32), x)


def test_what_a_kernel_raises_is_not_swallowed() -> None:
    with pytest.raises(ZeroDivisionError):
        gram(lambda a, b=None: 1 // 0, points(3))


# --- threads


def test_spread_keeps_the_order_and_stops_with_its_taker() -> None:
    assert list(spread(lambda i: i * i, range(50), 3)) == [i * i for i in range(50)]
    begun = []
    for found in spread(begun.append, range(1000), 2):
        assert found is None
        break
    assert len(begun) <= 4


# --- on disk


def test_on_disk_it_is_the_same_matrix(tmp_path: Path) -> None:
    x = points(50)
    for kernel in (RBF(), Gradient(RBF())):
        path = tmp_path / type(kernel).__name__
        found = gram(kernel, x, out=path, tile=8, chunk=16)
        np.testing.assert_array_equal(found[:], gram(kernel, x, tile=8))
        np.testing.assert_array_equal(open_gram(path)[3:20, ::7], found[3:20, ::7])
        assert found.read_only
    found = gram(RBF(), x, x[:13], out=tmp_path / "two", tile=8, chunk=16)
    np.testing.assert_array_equal(found[:], gram(RBF(), x, x[:13], tile=8))


@pytest.fixture
def made(tmp_path: Path) -> Path:
    path = tmp_path / "gram.zarr"
    gram(RBF(), points(40), out=path, tile=8, chunk=16)
    return path


def test_a_finished_matrix_is_not_computed_again(made: Path) -> None:
    before = {file: file.stat().st_mtime_ns for file in made.rglob("*")}
    gram(RBF(), points(40), out=made, tile=8, chunk=16)
    assert {file: file.stat().st_mtime_ns for file in made.rglob("*")} == before


def test_the_matrix_of_another_computation_is_refused(made: Path) -> None:
    x, sizes = points(40), {"tile": 8, "chunk": 16}
    with refused(ValueError, f"{made}: the Gram matrix of other points"):
        gram(RBF(), points(40, seed=1), out=made, **sizes)
    with refused(ValueError, f"{made}: the Gram matrix of another kernel"):
        gram(RBF(1.0001 if FLOAT == "float64" else 1.01), x, out=made, **sizes)
    with refused(ValueError, f"{made}: expected shape (39, 39), found (40, 40)"):
        gram(RBF(), x[:39], out=made, **sizes)
    with refused(ValueError, f"{made}: expected chunks (8, 8), found (16, 16)"):
        gram(RBF(), x, out=made, tile=8, chunk=8)
    other = made.parent / "something"
    other.mkdir()
    (other / "else").write_text("precious")
    with refused(ValueError, f"{other}: expected a Gram matrix or a new path"):
        gram(RBF(), x, out=other, **sizes)
    assert (other / "else").read_text() == "precious"


def test_damage_is_refused(made: Path) -> None:
    x, sizes = points(40), {"tile": 8, "chunk": 16}
    file = made / "c" / "1" / "2"
    whole = file.read_bytes()
    for broken in (whole[:100], b"", whole[:50] + bytes([whole[50] ^ 1]) + whole[51:]):
        file.write_bytes(broken)
        with pytest.raises(ValueError, match=f"{file}: damaged .*; remove this file to have"):
            gram(RBF(), x, out=made, **sizes)
        with pytest.raises(ValueError, match="checksum|buffer"):
            open_gram(made)[:]
    file.unlink()
    with refused(
        ValueError,
        f"{made}: 1 of 9 chunks are missing; call gram again, with the arguments that it was begun "
        "with, to have them computed",
    ):
        open_gram(made)
    found = gram(RBF(), x, out=made, **sizes)
    np.testing.assert_array_equal(found[:], gram(RBF(), x, tile=8))
    meta = made / "zarr.json"
    meta.write_bytes(meta.read_bytes()[:100])
    with pytest.raises(ValueError, match=f"{made}: not a Gram matrix, or a damaged one"):
        gram(RBF(), x, out=made, **sizes)
    with pytest.raises(FileNotFoundError):
        open_gram(made.parent / "nowhere")


# Children are forked before JAX has threads; the kernel is NumPy's, so that nothing is compiled.
KILLED = """
import os, random, signal, sys, time, warnings
import numpy as np
from ntklib import gram, store
from zarr.storage import _local

path, log, points, dtype = sys.argv[1:]
x = np.load(points)

def kernel(x1, x2=None):
    if len(x1) > 1:
        with open(log, "ab", buffering=0) as file:
            file.write(b".")
        time.sleep(0.002)
    return np.exp(np.asarray(x1) @ np.asarray(x1 if x2 is None else x2).T)

def halfway(count):
    put, left = _local._put, iter(range(count))
    def patched(path, value, exclusive=False):
        if next(left, None) is not None:
            return put(path, value, exclusive)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.with_suffix(".half.partial").open("wb", buffering=0) as file:
            file.write(bytes(value.as_buffer_like())[:100])
            os.kill(os.getpid(), signal.SIGKILL)
    _local._put = patched

def compute():
    gram.gram(kernel, x, out=path, tile=16, chunk=16, workers=2)

rng = random.Random(0)
for i in range(20):
    ready, told = os.pipe()
    child = os.fork()
    if child == 0:
        import jax.numpy as jnp
        jnp.zeros(1, dtype).block_until_ready()
        os.write(told, b".")
        if i % 4 == 3:
            halfway(rng.randrange(1, 9))
        compute()
        os._exit(0)
    os.read(ready, 1)
    if i % 4 != 3:
        time.sleep(rng.uniform(0, 0.12))
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    halves = sum(f.endswith(".partial") for _, _, files in os.walk(path) for f in files)
    print(os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0, halves)
compute()
"""


@once
def test_twenty_kills_lose_nothing(tmp_path: Path) -> None:
    x = points(400)
    np.save(tmp_path / "x.npy", x)
    path, log = tmp_path / "gram.zarr", tmp_path / "log"
    arguments = [path, log, tmp_path / "x.npy", FLOAT]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", KILLED, *arguments],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    told = [tuple(map(int, line.split())) for line in done.stdout.splitlines()]
    assert len(told) == 20
    killed = sum(sign == signal.SIGKILL for sign, _ in told)
    assert killed >= 15
    assert sum(halves > 0 for _, halves in told) >= 3  # killed in the middle of a write
    found = open_gram(path)
    np.testing.assert_allclose(found[:], np.exp(x @ x.T), rtol=1e-5)
    np.testing.assert_array_equal(found[:], found[:].T)
    assert not list(path.rglob("*.partial"))
    # Each start computes one tile to know its kernel by, each kill loses at most two.
    needed = 25 * 26 // 2
    assert needed <= log.stat().st_size <= needed + 21 + 2 * killed


# --- memory

PEAK = """
import resource, sys
import numpy as np
from ntklib.gram import gram

x = np.random.default_rng(0).standard_normal((6000, 784), "float32")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
found = gram(lambda a, b=None: (a @ (a if b is None else b).T) ** 2, x)
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print((after - before) * 1024 - found.nbytes)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="ru_maxrss is in KiB on Linux")
def test_beside_the_matrix_little_memory_is_taken() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PEAK], capture_output=True, text=True, check=True, env=os.environ
    )
    assert int(done.stdout) < 300 * 2**20
