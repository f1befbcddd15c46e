"""Settings of every test: JAX refuses what it would otherwise guess."""

import hypothesis
import jax

# The dtype is set outside, by JAX_ENABLE_X64: `make test` runs the modules' tests with both.
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")

# Compilation makes first calls slow, and CI must draw the same examples as everyone.
hypothesis.settings.register_profile("book", deadline=None, derandomize=True)
hypothesis.settings.load_profile("book")
