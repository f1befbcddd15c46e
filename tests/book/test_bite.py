"""The claims bite: change one formula of ntklib, and a chapter goes red naming its theorem."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]


class Mutation(NamedTuple):
    """In `file`, `old` becomes `new`, and the claim of `label` in the chapter fails."""

    chapter: str
    file: str
    old: str
    new: str
    label: str


MUTATIONS = [
    Mutation("rkhs", "kernels.py", "x @ y + self.offset", "x @ y - self.offset", "prop-features"),
    Mutation("rkhs", "kernels.py", "jnp.add(*", "jnp.subtract(*", "prop-closure"),
    Mutation(
        "rkhs", "stationary.py", "self.squared(x, y) / 2", "self.squared(x, y)", "prop-closure"
    ),
    Mutation("rkhs", "stationary.py", "s**2 / 3", "s**2 / 2", "prop-mixtures"),
    Mutation("rkhs", "rkhs.py", "return jnp.vdot(", "return 2 * jnp.vdot(", "thm-completion"),
    Mutation("rkhs", "matrix_kernels.py", "* self.matrix[", "* 2 * self.matrix[", "prop-tensor"),
    Mutation("rkhs", "matrix_kernels.py", "argnums=1", "argnums=0", "prop-gradient-kernel"),
    Mutation("rkhs", "stationary.py", "_matern12(self", "_matern12(4 * self", "prop-laplace-norm"),
    Mutation("rkhs", "rkhs.py", "penalty * jnp.eye", "2 * penalty * jnp.eye", "thm-ridge"),
    Mutation("rkhs", "rkhs.py", "jnp.full(n, 1 / n", "jnp.full(n, 2 / n", "thm-mercer"),
    Mutation(
        "kernel_gradient", "costs.py", "(u - y) ** 2) / (2", "(u - y) ** 2) / (1", "prop-derivative"
    ),
    Mutation(
        "kernel_gradient", "kernel_gradient.py", "x, d / len(x))", "x, d)", "thm-kernel-gradient"
    ),
    Mutation(
        "kernel_gradient", "filters.py", "multiply(t, -lam)", "multiply(2 * t, -lam)", "thm-flow"
    ),
    Mutation(
        "kernel_gradient",
        "kernel_gradient.py",
        "alpha - rate /",
        "alpha - 2 * rate /",
        "prop-filters",
    ),
    Mutation(
        "random_features", "random_features.py", "values, size**0.5", "values, size", "thm-lln"
    ),
    Mutation(
        "random_features",
        "random_features.py",
        "jnp.sqrt(nu / jax",
        "jnp.sqrt(1 / jax",
        "prop-spectral-samples",
    ),
    Mutation(
        "random_features",
        "feature_ridge.py",
        "1 / (self.eig",
        "1 / (2 * self.eig",
        "prop-feature-ridge",
    ),
    Mutation(
        "random_features",
        "feature_ridge.py",
        "penalty - r * jnp.sum",
        "penalty + r * jnp.sum",
        "prop-effective-ridge",
    ),
    Mutation(
        "deep_ntk", "network_state.py", "learned * before.c", "2 * before.c", "prop-one-hidden"
    ),
    Mutation(
        "deep_ntk",
        "dual_activations.py",
        "2 * kappa0(p.angle) - 1",
        "kappa0(p.angle)",
        "prop-dual-relu",
    ),
    Mutation(
        "deep_ntk",
        "dual_activations.py",
        "4 * a**2 * s / jnp.pi",
        "a**2 * s / jnp.pi",
        "prop-dual-erf",
    ),
    Mutation(
        "training", "expansion.py", "math.factorial(k)", "math.factorial(k + 1)", "prop-linearised"
    ),
    Mutation(
        "training", "filters.py", "multiply(t, -lam)", "multiply(2 * t, -lam)", "prop-linearised"
    ),
    Mutation(
        "training", "training.py", "return abs(float(", "return 2 * abs(float(", "thm-small-hessian"
    ),
    Mutation("training", "predict.py", "(x) @ self.y", "(x) @ self.y * 1.01", "thm-ensemble"),
    Mutation("computing", "arccos.py", "8**k * (2 * k + 1)", "8**k * (2 * k + 2)", "prop-gap"),
    Mutation("computing", "arccos.py", "(2 * c if j else c) * t", "2 * c * t", "prop-gap"),
    Mutation(
        "computing",
        "_tiles.py",
        "range(n) for j in range(i, n)",
        "range(n) for j in range(n)",
        "prop-tiles",
    ),
    Mutation(
        "computing",
        "conjugate_gradients.py",
        "+ np.where(active, rz /",
        "- np.where(active, rz /",
        "thm-cg",
    ),
    Mutation(
        "computing",
        "rpcholesky.py",
        "p=left / left.sum()",
        "p=(left > 0) / (left > 0).sum()",
        "thm-rpcholesky",
    ),
    Mutation("computing", "falkon.py", "(n / p) * (t @ t.T)", "(t @ t.T)", "prop-falkon"),
]


def run_claims(package: Path, chapter: str, until: str) -> subprocess.CompletedProcess[str]:
    """Run a chapter's code against the package in a folder, up to a claim."""
    environment = {**os.environ, "PYTHONPATH": str(package), "JAX_PLATFORMS": "cpu"}
    return subprocess.run(
        [
            sys.executable,
            str(ROOT / "tools" / "run_claims.py"),
            f"chapters/{chapter}.ipynb",
            f"--until={until}",
        ],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=600,
    )


@pytest.fixture
def package(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "ntklib", tmp_path / "ntklib", ignore=shutil.ignore_patterns("__pyc*"))
    return tmp_path


@pytest.mark.parametrize(
    ("chapter", "label"),
    # The last of a chapter overwrites those before it.
    {mutation.chapter: mutation.label for mutation in MUTATIONS}.items(),
)
def test_the_unchanged_copy_passes(package: Path, chapter: str, label: str) -> None:
    # A line that is only in the copy shows that it is the copy that runs.
    (package / "ntklib" / "__init__.py").write_text("print('this is the copy')\n")
    done = run_claims(package, chapter, label)
    assert done.returncode == 0, done.stdout
    assert "this is the copy" in done.stdout


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda m: f"{m.label}-{m.file}-{m.new}")
def test_a_changed_formula_fails_naming_its_theorem(package: Path, mutation: Mutation) -> None:
    path = package / "ntklib" / mutation.file
    source = path.read_text(encoding="utf-8")
    assert source.count(mutation.old) == 1, "the line to change is gone: choose another"
    path.write_text(source.replace(mutation.old, mutation.new), encoding="utf-8")
    done = run_claims(package, mutation.chapter, mutation.label)
    assert done.returncode == 1, done.stdout
    last = done.stdout.splitlines()[-1]
    assert last.startswith(f"{mutation.chapter}.ipynb: ClaimFailed: {mutation.label}: "), last
