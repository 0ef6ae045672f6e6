"""One layer's parameters, as a Linen module under the reference's names.

`SequenceLayer.fold` turns the parameters into the weights that `block` computes with: B
with its gain, C as a real matrix. Dropout and a batch's own statistics occur in
training alone, and are here.
"""

from __future__ import annotations

from functools import partial
from typing import Final

import jax
import jax.numpy as jnp
from flax import linen as nn

from saccade.model import initialization, split_complex, training_block
from saccade.model.array_types import Array, Bool, Float, Int
from saccade.model.block import NORM_EPSILON, Affine, Block, LayerWeights
from saccade.model.config import ModelConfig
from saccade.model.discretization import Discretization, States, Timescales
from saccade.model.pooling import Grouped, Projected
from saccade.model.training_block import TokenInputs

BATCH_EPSILON: Final = 1e-5


class S5(nn.Module):
    """The diagonal state space: Λ, B, C, D and the timescales Δ."""

    states: int
    features_in: int
    features_out: int
    block_size: int
    conj_sym: bool
    clip_eigs: bool
    dt_min: float
    dt_max: float
    step_rescale: float
    discretization: Discretization

    def setup(self) -> None:
        """Declare the parameters under the reference's names."""
        eigenvalues, vectors = initialization.block_diagonal_legs(
            self.states, self.block_size, conj_sym=self.conj_sym
        )
        real = jnp.asarray(eigenvalues.real, jnp.float32)
        imaginary = jnp.asarray(eigenvalues.imag, jnp.float32)
        draw_B = initialization.input_matrix(vectors, self.features_in)
        draw_C = initialization.output_matrix(vectors, self.features_out)
        draw_step = initialization.log_timescales(
            len(eigenvalues), self.dt_min, self.dt_max
        )
        self.Lambda_re = self.param("Lambda_re", lambda _: real)
        self.Lambda_im = self.param("Lambda_im", lambda _: imaginary)
        self.B = self.param("B", draw_B)
        self.C = self.param("C", draw_C)
        self.D = self.param("D", *self._feedthrough())
        self.log_step = self.param("log_step", draw_step)

    def _feedthrough(self) -> tuple[nn.initializers.Initializer, tuple[int, ...]]:
        if self.features_in == self.features_out:
            return nn.initializers.normal(stddev=1.0), (self.features_in,)
        return nn.initializers.glorot_normal(), (self.features_out, self.features_in)

    def eigenvalues(self) -> States:
        """Return Λ, (p,), 1/ms; `clip_eigs` keeps the real parts negative."""
        real = jnp.minimum(self.Lambda_re, -1e-4) if self.clip_eigs else self.Lambda_re
        return real + 1j * self.Lambda_im

    def timescales(self) -> Timescales:
        """Return Δ, (p,)."""
        return self.step_rescale * jnp.exp(self.log_step[:, 0])

    def rates(self) -> States:
        """Return ΛΔ, (p,), 1/ms."""
        return self.eigenvalues() * self.timescales()

    def input_matrix(self) -> Float[Array, "i q"]:
        """Return B times the gain that all events share, (i, 2p)."""
        gain = self.discretization.input_gain(self.eigenvalues(), self.timescales())
        B = gain[:, None] * (self.B[..., 0] + 1j * self.B[..., 1])
        return jnp.concatenate([B.real, B.imag]).T

    def output_matrix(self) -> Float[Array, "q o"]:
        """Return C, doubled for conjugate pairs, so that Re(C·x) is a product."""
        C = jnp.concatenate([self.C[..., 0], -self.C[..., 1]], axis=-1).T
        return 2.0 * C if self.conj_sym else C


class SequenceLayer(nn.Module):
    """One block's parameters, its folding, and its training."""

    config: ModelConfig
    features_in: int
    features_out: int
    states: int
    block: Block

    def setup(self) -> None:
        """Name the parts as the reference does."""
        config = self.config
        self.ssm = S5(
            self.states,
            self.features_in,
            self.features_out,
            config.ssm_block_size,
            config.conj_sym,
            config.clip_eigs,
            config.dt_min,
            config.dt_max,
            config.step_rescale,
            self.block.discretization,
            name="S5SSM_0",
        )
        self.gate = nn.Dense(self.features_out, name="Dense_0")
        if self.features_in != self.features_out:
            self.skip_projection = nn.Dense(self.features_out, name="Dense_1")
        if config.batchnorm:
            self.batch_norm = nn.BatchNorm(
                momentum=config.bn_momentum, epsilon=BATCH_EPSILON, name="BatchNorm_0"
            )
        else:
            self.layer_norm = nn.LayerNorm(epsilon=NORM_EPSILON, name="LayerNorm_0")

    def touch(self, x: Float[Array, " h"]) -> Float[Array, " o"]:
        """Use every parameter once, without time: what initialization runs."""
        inside = self.features_in if self.config.prenorm else self.features_out
        if self.config.batchnorm:
            self.batch_norm(jnp.zeros(inside), use_running_average=True)
        else:
            self.layer_norm(jnp.zeros(inside))
        self.ssm.rates()
        if self.features_in != self.features_out:
            self.skip_projection(x)
        return self.gate(jnp.zeros(self.features_out))

    def fold(self) -> LayerWeights:
        """Return the weights that the block computes with."""
        projects = self.features_in != self.features_out
        return LayerWeights(
            rates=split_complex.split(self.ssm.rates()),
            B=self.ssm.input_matrix(),
            C=self.ssm.output_matrix(),
            D=self.ssm.D.T,
            gate=_dense(self.gate),
            skip_projection=_dense(self.skip_projection) if projects else None,
            norm=self._norm(),
        )

    def _norm(self) -> Affine:
        if not self.config.batchnorm:
            held = self.layer_norm.variables["params"]
            return Affine(held["scale"], held["bias"])
        held, seen = (self.batch_norm.variables[k] for k in ("params", "batch_stats"))
        scale = held["scale"] * jax.lax.rsqrt(seen["var"] + BATCH_EPSILON)
        return Affine(scale, held["bias"] - seen["mean"] * scale)

    def project_batch(
        self, x: Float[Array, "*b l h"], valid: Bool[Array, "*b l"]
    ) -> Projected:
        """Run `Block.project` with the statistics of this batch."""
        u = self._normalize_batch(x, valid) if self.config.prenorm else x
        return self.block.enter(self.fold(), u, x)

    def train(
        self,
        inputs: Grouped | TokenInputs,
        valid: Bool[Array, "b g"],
        rows: Int[Array, " b"],
    ) -> Float[Array, "b g h"]:
        """Run from a zero state with dropout and batch statistics.

        Args:
            inputs: The tokens' projections.
            valid: Which stride groups exist.
            rows: Numbers that seed each row's dropout.
        """
        weights = self.fold()
        states, pooled = training_block.recur_from_zero(self.block, weights, inputs)
        y = self.block.mix(weights, states, pooled, partial(self._drop, rows))
        y = y if self.config.prenorm else self._normalize_batch(y, valid)
        return self.block.precision.cast_output(y)

    def _drop(
        self, rows: Int[Array, " b"], x: Float[Array, "b g o"]
    ) -> Float[Array, "b g o"]:
        """Drop features out, each row by its own key.

        A row's dropout is then the same whatever rows share its batch.
        """
        kept = 1.0 - self.config.dropout
        if kept == 1.0:
            return x
        key = self.make_rng("dropout")

        def draw(row: Int[Array, ""]) -> Bool[Array, "g o"]:
            return jax.random.bernoulli(jax.random.fold_in(key, row), kept, x.shape[1:])

        return jnp.where(jax.vmap(draw)(rows), x / kept, 0.0)

    def _normalize_batch(
        self, x: Float[Array, "*b l h"], valid: Bool[Array, "*b l"]
    ) -> Float[Array, "*b l h"]:
        """Normalise with the statistics of this batch's valid tokens."""
        if self.config.batchnorm:
            mask = valid[..., None]
            return self.batch_norm(x, use_running_average=False, mask=mask)
        return self.layer_norm(x)


def _dense(dense: nn.Dense) -> Affine:
    held = dense.variables["params"]
    return Affine(held["kernel"], held["bias"])
