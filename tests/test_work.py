"""Tiles cover, progress tells, and a checkpoint outlives the process that was saving it."""

import signal
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import refused

from ntklib._work import Checkpoint, fingerprint, progress, tiles

# --- tiles


@pytest.mark.parametrize("n", [0, 1, 5, 6, 7, 100])
@pytest.mark.parametrize("size", [1, 3, 7, 1000])
def test_tiles_cover_the_range_once_and_in_order(n: int, size: int) -> None:
    found = tiles(n, size)
    assert [i for tile in found for i in range(n)[tile]] == list(range(n))
    assert all(tile.stop - tile.start == size for tile in found[:-1])
    assert all(0 < tile.stop - tile.start <= size for tile in found)
    assert all(tile.stop <= n for tile in found)


def test_tiles_refuse() -> None:
    with refused(ValueError, "n: expected an integer ≥ 0, got -1"):
        tiles(-1, 2)
    with refused(ValueError, "size: expected an integer ≥ 1, got 0"):
        tiles(3, 0)
    with refused(TypeError, "size: expected an integer, got 2.0"):
        tiles(3, 2.0)


# --- progress


def test_progress_is_told_on_stderr_only_if_asked(capsys) -> None:
    assert list(progress(range(3), "counting", shown=False)) == [0, 1, 2]
    told = capsys.readouterr()
    assert told.out == told.err == ""
    rest = iter(range(3))  # of five steps two are done
    assert list(progress(rest, "counting", shown=True, total=5, start=2)) == [0, 1, 2]
    told = capsys.readouterr()
    assert told.out == ""
    assert "counting:  40%" in told.err
    assert "counting: 100%" in told.err
    assert "5/5" in told.err


# --- fingerprint


def test_fingerprint_knows_the_same_parts_again() -> None:
    def parts() -> list:
        return [np.arange(6.0, dtype="float32"), "name", 3, 0.1, None, (1, [2]), {"b": 1, "a": 2}]

    name = fingerprint(*parts())
    assert name == fingerprint(*parts())
    assert len(name) == 32
    assert name.isalnum()


def test_fingerprint_is_the_same_in_another_process_and_for_jax_arrays() -> None:
    code = (
        "import numpy as np; from ntklib._work import fingerprint; "
        "print(fingerprint('a', np.arange(3, dtype='int32'), {'x': 0.5, 'y': None}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    here = fingerprint("a", jnp.arange(3, dtype="int32"), {"y": None, "x": 0.5})
    assert done.stdout.strip() == here


DIFFERENT = [
    (),
    ("",),
    ("", ""),
    ("ab",),
    ("a", "b"),
    (("a", "b"),),
    (["a", "b"],),
    (1,),
    (1.0,),
    (True,),
    ("1",),
    (None,),
    (0.1 + 0.2,),
    (0.3,),
    ({"a": 1, "b": 2},),
    ({"a": 2, "b": 1},),
    (np.zeros(4, "float32"),),
    (np.zeros(4, "int32"),),
    (np.zeros((2, 2), "float32"),),
    (np.zeros((4, 1), "float32"),),
    (np.zeros(4, ">f4"),),
    (np.array([0, 0, 0, 1e-45], "float32"),),
    (np.zeros(2, "float32"), np.zeros(2, "float32")),
    (jax.random.key(0),),
    (jax.random.key(1),),
]


def test_fingerprint_tells_other_parts_apart() -> None:
    assert len({fingerprint(*parts) for parts in DIFFERENT}) == len(DIFFERENT)


def test_fingerprint_refuses_what_it_cannot_name() -> None:
    message = (
        "fingerprint: expected arrays, strings, numbers, None, tuples, lists and "
        "dictionaries of these, got function"
    )
    with refused(TypeError, message):
        fingerprint(1, [len, test_tiles_refuse][1])
    with refused(TypeError, "fingerprint: expected numbers in an array, got object"):
        fingerprint(np.array([None]))


# --- checkpoint


def test_what_was_saved_last_is_loaded(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "a", "me")
    assert checkpoint.load() is None
    for step in range(3):
        checkpoint.save(step=np.array(step), values=np.full((2, 3), step, "float32"))
    found = Checkpoint(str(tmp_path / "a"), "me").load()
    assert found.keys() == {"step", "values"}
    assert int(found["step"]) == 2
    assert found["values"].dtype == np.float32
    np.testing.assert_array_equal(found["values"], np.full((2, 3), 2))
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_the_checkpoint_of_another_computation_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a"
    Checkpoint(path, "one").save(values=np.zeros(2))
    message = (
        f"{path}: the checkpoint of another computation; give the arguments that it was begun "
        "with, or another path"
    )
    with refused(ValueError, message):
        Checkpoint(path, "two").load()


def damaged(path: Path):
    return refused(
        ValueError, f"{path}: not a checkpoint, or a damaged one; remove it to begin anew"
    )


def test_a_file_cut_short_anywhere_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a"
    Checkpoint(path, "me").save(values=np.arange(5.0), step=np.array(1))
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with damaged(path):
            Checkpoint(path, "me").load()


def test_any_changed_byte_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a"
    Checkpoint(path, "me").save(values=np.arange(5.0))
    whole = path.read_bytes()
    for i in range(len(whole)):
        path.write_bytes(whole[:i] + bytes([whole[i] ^ 0x01]) + whole[i + 1 :])
        with damaged(path):
            Checkpoint(path, "me").load()


@pytest.mark.parametrize("content", [b"", b"hello", b"\x93NUMPY", b"PK\x03\x04"])
def test_a_file_that_is_no_checkpoint_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a"
    path.write_bytes(content)
    with damaged(path):
        Checkpoint(path, "me").load()


@pytest.mark.parametrize("write", [np.save, np.savez])
def test_arrays_that_another_program_saved_are_refused(tmp_path: Path, write) -> None:
    path = tmp_path / "a"
    with path.open("wb") as file:
        write(file, np.zeros(3))
    with damaged(path):
        Checkpoint(path, "me").load()


def test_nothing_is_pickled(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "a", "me")
    checkpoint.save(values=np.zeros(2))
    with pytest.raises(ValueError, match="Object arrays cannot be saved"):
        checkpoint.save(values=np.array([None]))
    np.testing.assert_array_equal(checkpoint.load()["values"], np.zeros(2))


KILLED = """
import os, signal, sys
import numpy as np
from ntklib import _work

checkpoint = _work.Checkpoint(sys.argv[1], "me")
checkpoint.save(step=np.array(1), values=np.full(100_000, 1.0))

def killed(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

{kill}
checkpoint.save(step=np.array(2), values=np.full(100_000, 2.0), last=np.zeros(1))
"""
KILLS = {
    "before a byte": "_work.Path.open = killed",
    "in the middle": """
write, whole = np.lib.format.write_array, iter([True] * 3)
np.lib.format.write_array = lambda *a, **k: (write if next(whole, False) else killed)(*a, **k)
""",
    "before it is safe": "os.fsync = killed",
    "before it takes its place": "os.replace = killed",
}


@pytest.mark.parametrize("kill", KILLS.values(), ids=KILLS.keys())
def test_who_is_killed_while_saving_finds_what_was_saved_before(tmp_path: Path, kill: str) -> None:
    path = tmp_path / "a"
    done = subprocess.run([sys.executable, "-c", KILLED.format(kill=kill), path])
    assert done.returncode == -signal.SIGKILL
    part = tmp_path / "a.part"
    assert part.exists() == (kill != KILLS["before a byte"])
    if kill == KILLS["in the middle"]:
        assert 100_000 < part.stat().st_size < path.stat().st_size
    found = Checkpoint(path, "me").load()
    assert int(found["step"]) == 1
    np.testing.assert_array_equal(found["values"], np.ones(100_000))
    # What was left half written is in nobody's way.
    Checkpoint(path, "me").save(step=np.array(3))
    assert int(Checkpoint(path, "me").load()["step"]) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


COUNTS = """
import sys
import numpy as np
from ntklib._work import Checkpoint

checkpoint = Checkpoint(sys.argv[1], "me")
state = checkpoint.load() or {"step": np.array(0)}
step = int(state["step"])
while True:
    step += 1
    checkpoint.save(step=np.array(step), values=np.full(50_000, float(step)))
    print(step, flush=True)
"""


def test_a_count_goes_on_through_kills_at_any_time(tmp_path: Path) -> None:
    path = tmp_path / "a"
    last = 0
    for steps in (1, 2, 3):
        command = [sys.executable, "-c", COUNTS, path]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            told = [int(process.stdout.readline()) for _ in range(steps)]
            process.kill()
            told += [int(line) for line in process.stdout.read().split()]
        assert told[0] == last + 1
        found = Checkpoint(path, "me").load()
        last = int(found["step"])
        # Told after it was saved: the next one may have been saved too.
        assert last - told[-1] in (0, 1)
        np.testing.assert_array_equal(found["values"], np.full(50_000, last))
