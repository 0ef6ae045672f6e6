"""One SSM block: normalise, project, recur, mix, add the skip.

A layer first projects each input on its own (`project`), and only then looks at time.
What it projects depends on the input alone, so for the first layer a table of all
tokens' projections can stand in for the embedding (see `model.streaming.fold`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Complex, Float, Int

from model import initialization, recurrence
from model.array_types import States, Timescales
from model.config import ModelConfig
from model.discretization import DISCRETIZATIONS, Discretization
from model.pooling import WEIGHTINGS, Weighting, pool

Keep = Callable[[Array], Array]
"""Dropout, or the identity."""


class Projected(NamedTuple):
    """What a layer makes of an input before it looks at time.

    Attributes:
        drive: What enters the states, B·u times the input gain, (..., p).
        feed: u, which D passes straight on, (..., h_in).
        skip: The residual branch, (..., h_in).
    """

    drive: Complex[Array, "*b p"]
    feed: Float[Array, "*b h"]
    skip: Float[Array, "*b h"]


class OpenGroup(NamedTuple):
    """The tokens of a stride group that is not complete yet, summed.

    Attributes:
        held: Tokens so far.
        elapsed_ms: Their gaps' sum.
        first: The state after the first of them, (p,).
        feed: Weighted sum of `Projected.feed`, (h,); `skip` likewise.
        weight: Sum of the weights.
    """

    held: Int[Array, ""]
    elapsed_ms: Float[Array, ""]
    first: Complex[Array, " p"]
    feed: Float[Array, " h"]
    skip: Float[Array, " h"]
    weight: Float[Array, ""]


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
        """Return Λ, (p,), 1/ms, with negative real parts where so configured."""
        real = jnp.minimum(self.Lambda_re, -1e-4) if self.clip_eigs else self.Lambda_re
        return real + 1j * self.Lambda_im

    def timescales(self) -> Timescales:
        """Return Δ, (p,)."""
        return self.step_rescale * jnp.exp(self.log_step[:, 0])

    def rates(self) -> States:
        """Return ΛΔ, (p,), 1/ms."""
        return self.eigenvalues() * self.timescales()

    def drive(self, u: Float[Array, "*b h"]) -> Complex[Array, "*b p"]:
        """Project inputs on the states, with the part of the gain that all share."""
        gain = self.discretization.input_gain(self.eigenvalues(), self.timescales())
        B = gain[:, None] * (self.B[..., 0] + 1j * self.B[..., 1])
        return jax.lax.complex(u @ B.real.T, u @ B.imag.T)

    def read(
        self, state: Complex[Array, "*b p"], u: Float[Array, "*b i"]
    ) -> Float[Array, "*b o"]:
        """Return Re(C·x), doubled for conjugate pairs, plus D·u."""
        y = state.real @ self.C[..., 0].T - state.imag @ self.C[..., 1].T
        doubled = 2.0 * y if self.conj_sym else y
        return doubled + (u * self.D if self.D.ndim == 1 else u @ self.D.T)


class SequenceLayer(nn.Module):
    """One block of the network, for whole sequences and for single tokens."""

    config: ModelConfig
    features_in: int
    features_out: int
    states: int
    stride: int

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
            DISCRETIZATIONS[config.discretization],
            name="S5SSM_0",
        )
        self.gate = nn.Dense(self.features_out, name="Dense_0")
        if self.features_in != self.features_out:
            self.widen = nn.Dense(self.features_out, name="Dense_1")
        if config.batchnorm:
            self.batch_norm = nn.BatchNorm(
                momentum=config.bn_momentum, epsilon=1e-5, name="BatchNorm_0"
            )
        else:
            self.layer_norm = nn.LayerNorm(epsilon=1e-6, name="LayerNorm_0")
        self.drop = nn.Dropout(config.dropout)

    @property
    def weighting(self) -> Weighting:
        """How the tokens of a stride group are weighed."""
        return WEIGHTINGS[self.config.pooling_mode]

    def normalize(self, x: Float[Array, "*b h"]) -> Float[Array, "*b h"]:
        """Apply the layer's norm with what training left in it."""
        if self.config.batchnorm:
            return self.batch_norm(x, use_running_average=True)
        return self.layer_norm(x)

    def project(self, x: Float[Array, "*b h"]) -> Projected:
        """Do all that depends on an input alone."""
        u = self.normalize(x) if self.config.prenorm else x
        return Projected(drive=self.ssm.drive(u), feed=u, skip=x)

    def mix(
        self,
        state: Complex[Array, "*b p"],
        feed: Float[Array, "*b i"],
        skip: Float[Array, "*b i"],
        keep: Keep,
    ) -> Float[Array, "*b o"]:
        """Turn states into outputs: C and D, GLU, residual sum; before any norm."""
        y = self.ssm.read(state, feed)
        gate = nn.sigmoid(self.gate(keep(nn.gelu(y))))
        widened = skip if self.features_in == self.features_out else self.widen(skip)
        return widened + keep(y * gate)

    def finish(self, x: Float[Array, "*b h"]) -> Float[Array, "*b h"]:
        """Apply the norm of a postnorm layer."""
        return x if self.config.prenorm else self.normalize(x)

    def init_state(self) -> tuple[Complex[Array, " p"], OpenGroup]:
        """Return the state before any token, and an empty group."""
        ssm = jnp.zeros_like(self.ssm.eigenvalues())
        nothing = jnp.zeros((), ssm.real.dtype)
        features = jnp.zeros(self.features_in, ssm.real.dtype)
        held = jnp.zeros((), jnp.int32)
        return ssm, OpenGroup(held, nothing, ssm, features, features, nothing)

    def recur(
        self,
        state: Complex[Array, "*b p"],
        projected: Projected,
        dt_ms: Float[Array, "*b l"],
        valid: Bool[Array, "*b l"],
    ) -> tuple[Complex[Array, "*b p"], Projected, Float[Array, "*b g"]]:
        """Run over a whole sequence of stride groups.

        Args:
            state: The state before the first token, (..., p).
            projected: The tokens' projections, (..., l, ·), l a multiple of stride.
            dt_ms: Integration timesteps, (..., l), 0 where not valid.
            valid: Which tokens are real; the others change nothing.

        Returns:
            The state after the last token; per group the state after its first
            token (as `drive`) and the pooled `feed` and `skip`; its duration, ms.
        """
        drive = jnp.where(valid[..., None], projected.drive, 0.0)
        grouped_dt = _grouped(dt_ms, dt_ms.ndim - 1, self.stride)
        groups = recurrence.summarize(
            self.ssm.rates(),
            _grouped(drive, dt_ms.ndim - 1, self.stride),
            grouped_dt,
            self.ssm.discretization.event_gain,
        )
        after, states = recurrence.scan(state, groups)
        weights = self.weighting(grouped_dt, jnp.arange(self.stride))
        feed, skip = (
            pool(_grouped(x, dt_ms.ndim - 1, self.stride), weights)
            for x in (projected.feed, projected.skip)
        )
        return after, Projected(states, feed, skip), grouped_dt.sum(axis=-1)

    def scan(
        self,
        state: Complex[Array, "*b p"],
        projected: Projected,
        dt_ms: Float[Array, "*b l"],
        valid: Bool[Array, "*b l"],
    ) -> tuple[Complex[Array, "*b p"], Float[Array, "*b g h"], Float[Array, "*b g"]]:
        """Run over a whole sequence as trained; arguments as for `recur`."""
        after, read, elapsed_ms = self.recur(state, projected, dt_ms, valid)
        y = self.mix(read.drive, read.feed, read.skip, lambda x: x)
        return after, self.finish(y), elapsed_ms

    def train(
        self,
        projected: Projected,
        dt_ms: Float[Array, "*b l"],
        valid: Bool[Array, "*b l"],
    ) -> tuple[Float[Array, "*b g h"], Float[Array, "*b g"]]:
        """Run from a zero state with dropout and batch statistics."""
        zero = jnp.zeros_like(projected.drive[..., 0, :])
        _, read, elapsed_ms = self.recur(zero, projected, dt_ms, valid)
        keep = lambda x: self.drop(x, deterministic=False)  # noqa: E731
        y = self.mix(read.drive, read.feed, read.skip, keep)
        if not self.config.prenorm:
            y = self.normalize_batch(y, valid[..., :: self.stride])
        return y, elapsed_ms

    def normalize_batch(
        self, x: Float[Array, "*b l h"], valid: Bool[Array, "*b l"]
    ) -> Float[Array, "*b l h"]:
        """Apply the norm with the statistics of this batch's valid tokens."""
        if self.config.batchnorm:
            mask = valid[..., None]
            return self.batch_norm(x, use_running_average=False, mask=mask)
        return self.layer_norm(x)

    def project_batch(
        self, x: Float[Array, "*b l h"], valid: Bool[Array, "*b l"]
    ) -> Projected:
        """Project as `project` does, with the statistics of this batch."""
        u = self.normalize_batch(x, valid) if self.config.prenorm else x
        return Projected(drive=self.ssm.drive(u), feed=u, skip=x)

    def step(
        self,
        state: Complex[Array, " p"],
        group: OpenGroup,
        projected: Projected,
        dt_ms: Float[Array, ""],
    ) -> tuple[Complex[Array, " p"], OpenGroup, Float[Array, " h"]]:
        """Take one token; the output counts only when the group is then complete."""
        exponent = self.ssm.rates() * dt_ms
        gain = self.ssm.discretization.event_gain(exponent)
        state = jnp.exp(exponent) * state + gain * projected.drive
        weight = self.weighting(dt_ms, group.held)
        group = OpenGroup(
            held=group.held + 1,
            elapsed_ms=group.elapsed_ms + dt_ms,
            first=jnp.where(group.held == 0, state, group.first),
            feed=group.feed + weight * projected.feed,
            skip=group.skip + weight * projected.skip,
            weight=group.weight + weight,
        )
        feed, skip = group.feed / group.weight, group.skip / group.weight
        y = self.finish(self.mix(group.first, feed, skip, lambda x: x))
        return state, group, y


def _grouped(x: Array, axis: int, stride: int) -> Array:
    """Split the token axis, (..., l, ·) to (..., l / stride, stride, ·)."""
    shape = x.shape
    return x.reshape(*shape[:axis], -1, stride, *shape[axis + 1 :])
