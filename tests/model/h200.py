"""What a served bucket becomes on an NVIDIA H200, compiled where there is none.

XLA compiles for a GPU that `h200.txtpb` describes. Its wheels must be importable:
`jax-cuda12-plugin` and `jax-cuda12-pjrt` of JAX's release, and `nvidia-cuda-nvcc-cu12`,
none of which needs a driver. They may be installed, or lie in a folder that
`SACCADE_TEST_CUDA_PACKAGES` names (`pip install --no-deps --target FOLDER …`).

    python -m tests.model.h200 dvs/small 1x1 1024x1

prints what is known of each bucket, one JSON object a line. Products are not tuned
without a card: their tiles, and so some of the kernels, differ on one.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from tests.model import hlo

ROOT: Final = Path(__file__).parents[2]
TARGET: Final = Path(__file__).with_name("h200.txtpb")
PACKAGES: Final = "SACCADE_TEST_CUDA_PACKAGES"

POOL_ROWS: Final = 1031
"""Rows of the pool. A prime, so that an array of a multiple of this size holds a part
of every slot's row."""


@dataclass(frozen=True)
class Facts:
    """What is known of one compiled bucket.

    Attributes:
        bucket: Its shape, as `64x1`.
        kernels: Kernels and copies that one call launches.
        loops: Loops and branches, each of which the host or a graph must steer.
        pool_copies: Instructions that write a part of every slot's row.
        pool_in_place: Whether the pool that is returned lies where the donated one did.
        temporary_bytes: Memory of a call besides its arguments and results.
        products: Matrix products that were asked for.
        inexact: Those of less than float32's precision.
        inexact_compiled: Those of less that the compiler made of them.
        split_products: Those that it computes from several TF32 or bfloat16 products.
        tensor_core_kernels: Kernels that multiply in TF32 or bfloat16.
        graphs: CUDA graphs that a call launches.
        outside_graphs: Kernels and copies outside of these.
    """

    bucket: str
    kernels: int
    loops: list[str]
    pool_copies: list[str]
    pool_in_place: bool
    temporary_bytes: int
    products: int
    inexact: list[str]
    inexact_compiled: list[str]
    split_products: int
    tensor_core_kernels: list[str]
    graphs: int
    outside_graphs: int


def environment() -> dict[str, str]:
    """Return the variables under which a process without a GPU compiles for one."""
    folders = [os.environ.get(PACKAGES, ""), str(ROOT / "src"), str(ROOT)]
    folders.append(os.environ.get("PYTHONPATH", ""))
    changed = {
        "PYTHONPATH": os.pathsep.join(filter(None, folders)),
        "CUDA_VISIBLE_DEVICES": "-1",
        "JAX_PLATFORMS": "cpu",
        "JAX_SKIP_CUDA_CONSTRAINTS_CHECK": "1",
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    return {**os.environ, **changed}


def missing() -> str | None:
    """Return why nothing can be compiled for a GPU here, or None if it can.

    Raises:
        ValueError: The folder that the variable names does not hold what it should.
    """
    pjrt, release = "jax-cuda12-pjrt", version("jax")
    wheels = f"jax-cuda12-plugin and {pjrt} {release}, and nvidia-cuda-nvcc-cu12"
    if folder := os.environ.get(PACKAGES):
        if not any(Path(folder).glob(f"jax_cuda12_pjrt-{release}.dist-info")):
            raise ValueError(f"{PACKAGES}={folder} lacks the wheels {wheels}")
        return None
    try:
        found = version(pjrt)
    except PackageNotFoundError:
        return f"needs the wheels {wheels}, installed or in {PACKAGES}"
    if found != release:
        return f"{pjrt} {found} does not fit jax {release}"
    if not any(each.name == "cuda_nvcc" for each in _nvidia_packages()):
        return "needs the wheel nvidia-cuda-nvcc-cu12"
    return None


def _nvidia_packages() -> list[Path]:
    spec = find_spec("nvidia")
    places = spec.submodule_search_locations if spec else None
    return [path for place in places or () for path in Path(place).iterdir()]


def compile_there(recipe: str, buckets: Iterable[str]) -> dict[str, Facts]:
    """Compile a published configuration's buckets in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.model.h200", recipe, *buckets],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-4000:])
    found = [Facts(**json.loads(line)) for line in done.stdout.splitlines()]
    return {facts.bucket: facts for facts in found}


def _compile(recipe_name: str, shapes: list[str]) -> None:
    """Compile buckets and print a line of facts for each; needs `environment`."""
    import jax
    import jax.numpy as jnp
    from jax.experimental import topologies
    from jax.sharding import SingleDeviceSharding

    from saccade.model.state_rows import RowLayout
    from saccade.server.engine.compiled import bucket_call
    from saccade.server.engine.scheduler import Bucket
    from saccade.server.engine.slots import packed_size

    described = topologies.get_topology_desc(
        platform="cuda", target_config=TARGET.read_text(), topology="1x1x1"
    )
    there = SingleDeviceSharding(described.devices[0])

    def shaped(leaf: Any) -> Any:
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=there)

    servable = _servable(recipe_name)
    layout = RowLayout(jax.eval_shape(servable.fresh, jnp.float32(jnp.inf)))
    pool = jax.ShapeDtypeStruct((POOL_ROWS, layout.width), jnp.float32)
    for shape in shapes:
        bucket = Bucket(*map(int, shape.split("x")))
        words = jnp.zeros(packed_size(bucket, servable.tick_events), jnp.int32)
        arguments = jax.tree.map(shaped, (servable.weights, pool, words))
        lowered = bucket_call(servable, layout, bucket).trace(*arguments).lower()
        print(json.dumps(asdict(_facts(shape, lowered, pool))), flush=True)


def _servable(recipe_name: str) -> Any:
    """Return a published configuration as a model to serve, its weights as shapes."""
    import jax
    import numpy as np

    from saccade.model.backends import xla
    from saccade.model.classifier import fold, init_carry, initialize
    from saccade.model.upstream.recipes import recipe
    from saccade.server.engine.model_registry import Canary, Servable

    config = recipe(recipe_name).config
    variables = jax.eval_shape(partial(initialize, config), jax.random.key(0))
    backend = xla(config, jax.eval_shape(partial(fold, config), variables))
    return Servable(
        name=recipe_name,
        tick_events=config.tick_events,
        classes=config.num_classes,
        weights=backend.weights,
        fresh=lambda half_life_ms: init_carry(config, variables, half_life_ms),
        advance=partial(backend.advance, config),
        canary=Canary(np.zeros(0, np.int32), np.zeros(0, np.float32), np.zeros(0)),
    )


def _facts(shape: str, lowered: Any, pool: Any) -> Facts:
    dots = [line for line in lowered.as_text().splitlines() if "dot_general" in line]
    with tempfile.TemporaryDirectory() as folder:
        options = {
            "xla_gpu_autotune_level": "0",
            "xla_dump_to": folder,
            "xla_dump_emitter_re": "ptx",
        }
        compiled = lowered.compile(compiler_options=options)
        ptx = "".join(path.read_text() for path in Path(folder).glob("*.ptx"))
        (thunks,) = Path(folder).glob("*thunk_sequence_after_thunk_passes.txt")
        launches = thunks.read_text().splitlines()
    module, memory = hlo.read_module(compiled.as_text()), compiled.memory_analysis()
    return Facts(
        bucket=shape,
        kernels=len(module.launched()),
        loops=[each.name for each in module if each.op in hlo.LOOPS],
        pool_copies=hlo.pool_copies(module, POOL_ROWS),
        pool_in_place=memory.alias_size_in_bytes >= pool.size * 4,
        temporary_bytes=memory.temp_size_in_bytes,
        products=len(dots),
        inexact=[dot.strip() for dot in dots if not hlo.EXACT_LOWERED.search(dot)],
        inexact_compiled=[
            each.name
            for each in hlo.products(module)
            if not hlo.EXACT.search(each.text)
        ],
        split_products=sum("algorithm=dot_" in each.text for each in module),
        tensor_core_kernels=hlo.tensor_core_kernels(ptx),
        graphs=sum("kCommandBuffer" in line for line in launches),
        outside_graphs=sum(
            bool(re.match(r"\d+: ", line)) and "kCommandBuffer" not in line
            for line in launches
        ),
    )


if __name__ == "__main__":
    _compile(sys.argv[1], sys.argv[2:])
