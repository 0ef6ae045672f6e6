"""The network, from events' tokens to logits. Begin reading here.

    token ──> embedding ──> stage 0 ──> … ──> stage n ──> readout ──> decoder ──> logits
                              │ a pooling layer (stride S), then layers of stride 1

Each layer is a linear recurrence over time (a state per feature, decaying with the
gap between events) between pointwise maps. All stages together take `tick_events`
events in for one vector out. The readout averages those vectors; the decoder maps the
mean to class scores.

`Classifier.__call__` is for training. `scan_ticks` continues from given states over
whole ticks, and `step` moves by one event: `model.streaming` makes both into plain
functions over a `State` value. Schöne et al. 2024, arXiv:2404.18508.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Complex, Float, Int

from model.config import ModelConfig
from model.layer import OpenGroup, Projected, SequenceLayer
from model.readout import READOUTS, Readout, accumulate, init_readout

Variables = dict[str, Any]
"""Linen's nested dictionary: `params` and, with batch norm, `batch_stats`."""


class Carry(NamedTuple):
    """What survives a tick boundary: all that the engine keeps of a session.

    Attributes:
        ssm: Each layer's state, (..., p).
        readout: The running mean of the last stage's outputs.
    """

    ssm: tuple[Complex[Array, "*b _"], ...]
    readout: Readout


class State(NamedTuple):
    """All that a stream's future depends on: the carry and the open stride groups."""

    carry: Carry
    groups: tuple[OpenGroup, ...]


class Stage(nn.Module):
    """A pooling layer followed by layers of stride 1."""

    config: ModelConfig
    index: int

    def setup(self) -> None:
        """Make the layers; all but the first stage widen."""
        config, factor = self.config, self.config.state_expansion_factor
        features = config.d_model * factor**self.index
        features_in = config.d_model * factor ** max(self.index - 1, 0)
        self.layers = [
            SequenceLayer(
                config,
                features_in if place == 0 else features,
                features,
                config.d_ssm * factor**self.index,
                config.pooling_stride if place == 0 else 1,
                name=f"SequenceLayer_{place}",
            )
            for place in range(config.num_layers_per_stage)
        ]


class Encoder(nn.Module):
    """The embedding and the stages."""

    config: ModelConfig

    def setup(self) -> None:
        """Name the parts as the reference does."""
        config = self.config
        self.encoder = nn.Embed(config.num_embeddings, config.d_model)
        self.stages = [Stage(config, index) for index in range(config.num_stages)]

    def layers(self) -> list[SequenceLayer]:
        """Return every layer in order."""
        return [layer for stage in self.stages for layer in stage.layers]


class Classifier(nn.Module):
    """From tokens and integration timesteps to logits."""

    config: ModelConfig

    def setup(self) -> None:
        """Make the encoder and the decoder."""
        self.encoder = Encoder(self.config)
        self.decoder = nn.Dense(self.config.num_classes)

    def __call__(
        self,
        tokens: Int[Array, "b l"],
        dt_ms: Float[Array, "b l"],
        lengths: Int[Array, " b"],
        *,
        train: bool,
    ) -> Float[Array, "b c"]:
        """Score a batch of whole sequences.

        Args:
            tokens: (b, l); what lies past a row's length is ignored.
            dt_ms: Integration timesteps, (b, l), ms.
            lengths: Events in each row, (b,); an incomplete last tick is not scored.
            train: Use dropout (rng `dropout`) and the statistics of this batch.
        """
        ticks = tokens.shape[1] // self.config.tick_events
        whole = ticks * self.config.tick_events
        valid = jnp.arange(whole) < self._whole(lengths)[:, None]
        tokens = jnp.where(valid, tokens[:, :whole], 0)
        dt_ms = jnp.where(valid, dt_ms[:, :whole], 0.0)
        run = self._train if train else self._infer
        outputs, elapsed_ms = run(tokens, dt_ms, valid)
        fresh = init_readout(outputs.shape[-1], jnp.inf)
        _, means = accumulate(
            READOUTS[self.config.classification_mode],
            jax.tree.map(
                lambda x: jnp.broadcast_to(x, (len(lengths), *x.shape)), fresh
            ),
            outputs,
            elapsed_ms,
            valid[:, :: self.config.tick_events],
        )
        return self.decoder(means[:, -1])

    def _whole(self, lengths: Int[Array, " b"]) -> Int[Array, " b"]:
        return lengths // self.config.tick_events * self.config.tick_events

    def _train(
        self, tokens: Int[Array, "b l"], dt_ms: Array, valid: Bool[Array, "b l"]
    ) -> tuple[Array, Array]:
        first, *others = self.encoder.layers()
        projected = self._project_tokens(tokens, valid)
        x, dt_ms = first.train(projected, dt_ms, valid)
        valid = valid[:, :: first.stride]
        for layer in others:
            projected = layer.project_batch(x, valid)
            x, dt_ms = layer.train(projected, dt_ms, valid)
            valid = valid[:, :: layer.stride]
        return x, dt_ms

    def _project_tokens(
        self, tokens: Int[Array, "b l"], valid: Bool[Array, "b l"]
    ) -> Projected:
        """Project a batch's tokens, once per word where that is the smaller table."""
        depends_on_batch = self.config.batchnorm and self.config.prenorm
        if depends_on_batch or tokens.size <= self.config.num_embeddings:
            x = self.encoder.encoder(tokens)
            return self.encoder.layers()[0].project_batch(x, valid)
        return jax.tree.map(lambda rows: rows[tokens], self.table())

    def _infer(
        self, tokens: Int[Array, "b l"], dt_ms: Array, valid: Bool[Array, "b l"]
    ) -> tuple[Array, Array]:
        layers = self.encoder.layers()
        x = layers[0].project(self.encoder.encoder(tokens))
        states = tuple(
            jnp.zeros((len(tokens), *layer.init_state()[0].shape), x.drive.dtype)
            for layer in layers
        )
        _, outputs, elapsed_ms = self._through(states, x, dt_ms, valid)
        return outputs, elapsed_ms

    def _through(
        self,
        states: tuple[Array, ...],
        projected: Projected,
        dt_ms: Array,
        valid: Array,
    ) -> tuple[tuple[Array, ...], Array, Array]:
        after = []
        layers = self.encoder.layers()
        for place, (layer, state) in enumerate(zip(layers, states, strict=True)):
            state, x, dt_ms = layer.scan(state, projected, dt_ms, valid)
            valid = valid[..., :: layer.stride]
            after.append(state)
            if place + 1 < len(layers):
                projected = layers[place + 1].project(x)
        return tuple(after), x, dt_ms

    def touch(self) -> Float[Array, " c"]:
        """Visit every parameter once, without time: what initialization runs."""
        x = self.encoder.encoder(jnp.zeros((), jnp.int32))
        for layer in self.encoder.layers():
            projected = layer.project(x)
            mixed = layer.mix(projected.drive, projected.feed, projected.skip, _same)
            x = layer.finish(mixed)
        return self.decoder(x)

    def table(self) -> Projected:
        """Project every token of the vocabulary through the first layer, (v, ·)."""
        return self.encoder.layers()[0].project(self.encoder.encoder.embedding)

    def init_state(self, half_life_ms: float) -> State:
        """Return the state of a stream that has seen nothing."""
        pairs = [layer.init_state() for layer in self.encoder.layers()]
        readout = init_readout(self._features(), half_life_ms)
        ssm, groups = zip(*pairs, strict=True)
        return State(Carry(ssm, readout), groups)

    def _features(self) -> int:
        return self.encoder.layers()[-1].features_out

    def scan_ticks(
        self,
        carry: Carry,
        projected: Projected,
        dt_ms: Float[Array, "*b l"],
        valid: Bool[Array, "*b l"],
    ) -> tuple[Carry, Float[Array, "*b k c"]]:
        """Continue over whole ticks.

        Args:
            carry: Where the streams stand, leaves (..., ·).
            projected: The tokens' projections, (..., l, ·), l whole ticks.
            dt_ms: Integration timesteps, (..., l), 0 where not valid.
            valid: Which tokens are real, whole ticks.

        Returns:
            Where the streams stand then, and the logits after each tick, (..., k, c).
        """
        ssm, outputs, elapsed_ms = self._through(carry.ssm, projected, dt_ms, valid)
        rule = READOUTS[self.config.classification_mode]
        ticked = valid[..., :: self.config.tick_events]
        readout, means = accumulate(rule, carry.readout, outputs, elapsed_ms, ticked)
        return Carry(ssm, readout), self.decoder(means)

    def step(
        self, state: State, projected: Projected, dt_ms: Float[Array, ""]
    ) -> tuple[State, Float[Array, " c"], Bool[Array, ""]]:
        """Take one event: the definition of online inference.

        Returns:
            The state, the logits, and whether this event completed a tick.
        """
        layers = self.encoder.layers()
        live = jnp.asarray(True)  # noqa: FBT003
        ssm, groups = list(state.carry.ssm), list(state.groups)
        for place, layer in enumerate(layers):
            moved, group, x = layer.step(ssm[place], groups[place], projected, dt_ms)
            closes = live & (group.held == layer.stride)
            dt_ms = group.elapsed_ms
            ssm[place] = jnp.where(live, moved, ssm[place])
            groups[place] = _settle(groups[place], group, live, closes)
            live = closes
            if place + 1 < len(layers):
                projected = layers[place + 1].project(x)
        readout, means = accumulate(
            READOUTS[self.config.classification_mode],
            state.carry.readout,
            x[None],
            dt_ms[None],
            live[None],
        )
        return (
            State(Carry(tuple(ssm), readout), tuple(groups)),
            self.decoder(means[0]),
            live,
        )


def initialize(config: ModelConfig, key: Array) -> Variables:
    """Draw a model's parameters (and empty batch statistics), float32."""
    return jax.jit(lambda key: Classifier(config).init(key, method="touch"))(key)


def _same(x: Array) -> Array:
    return x


def _settle(
    before: OpenGroup, after: OpenGroup, live: Array, closes: Array
) -> OpenGroup:
    """Keep the old group if no token arrived, empty it if it is complete."""

    def choose(old: Array, new: Array) -> Array:
        return jnp.where(closes, jnp.zeros_like(new), jnp.where(live, new, old))

    return jax.tree.map(choose, before, after)
