"""One process of a mesh of several: started by test_sharded.py, with two devices of its own."""

import os
import sys

import jax
import numpy as np

from ntklib.sharded import Sharded
from ntklib.solve import solve
from ntklib.stationary import RBF

jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_enable_x64", True)
jax.config.update("jax_cpu_collectives_implementation", "gloo")

address, count, index, path, mode = sys.argv[1:]
jax.distributed.initialize(
    address,
    int(count),
    int(index),
    initialization_timeout=60,
    heartbeat_timeout_seconds=10,
    shutdown_timeout_seconds=20,
)

data = np.load(path + ".npz")
x, y = data["x"], data["y"]
mesh = jax.make_mesh((jax.device_count(),), ("rows",))
if mode == "solve":
    f = solve(RBF(), x, y, ridge=0.1, method="cg", rank=20, tolerance=1e-13, mesh=mesh)
    np.savez(
        f"{path}.{index}.npz", coefficients=f.coefficients, product=Sharded(RBF(), x, mesh) @ y
    )
    print(f.why, flush=True)
else:
    operator = Sharded(RBF(), x, mesh)
    operator @ y
    print("ready", flush=True)
    if index == "1":
        os.kill(os.getpid(), 9)
    for _ in range(100_000):
        operator @ y
