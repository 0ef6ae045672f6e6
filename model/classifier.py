"""The network, from events' tokens to logits. Begin reading here.

    token ──> embedding ──> stage 0 ──> … ──> stage n ──> readout ──> decoder ──> logits
                              │ a pooling layer (stride S), then layers of stride 1

Each layer is a linear recurrence over time (a state per feature, decaying with the
gap between events) between pointwise maps. All stages together take `tick_events`
events in for one vector out. The readout averages those vectors; the decoder maps the
mean to class scores.

`Classifier` is a Linen module: it holds the parameters under the reference's names, and
training runs it. `scan` scores a whole sequence. `fold` turns the parameters into the
weights of online inference, and `init_state` makes a new stream's state; `inference`
continues from there, event by event or tick by tick.
Schöne et al. 2024, arXiv:2404.18508.
"""

from __future__ import annotations

from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from saccade.model.array_types import Array, Bool, Float, Int
from saccade.model.block import Affine, Block, blocks, zero_state
from saccade.model.config import ModelConfig
from saccade.model.inference import Carry, State, Weights, embed, forward
from saccade.model.layer import SequenceLayer
from saccade.model.pooling import Grouped, Projected, grouped
from saccade.model.precision import FLOAT32, Precision
from saccade.model.readout import READOUTS, accumulate, init_readout
from saccade.model.split_complex import join
from saccade.model.training_block import TokenInputs

Variables = dict[str, Any]
"""Linen's nested dictionary: `params` and, with batch norm, `batch_stats`."""

Shape = tuple[int, ...]


class Stage(nn.Module):
    """A pooling layer followed by layers of stride 1."""

    config: ModelConfig
    precision: Precision
    index: int

    def setup(self) -> None:
        """Make the layers; the pooling layers change the number of features."""
        config = self.config
        features_in = config.features(self.index - 1)
        features = config.features(self.index)
        self.layers = [
            SequenceLayer(
                config,
                features_in if place == 0 else features,
                features,
                config.states(self.index),
                blocks(config, self.precision)[place],
                name=f"SequenceLayer_{place}",
            )
            for place in range(config.num_layers_per_stage)
        ]


class Encoder(nn.Module):
    """The embedding and the stages."""

    config: ModelConfig
    precision: Precision

    def setup(self) -> None:
        """Name the parts as the reference does."""
        config, precision = self.config, self.precision
        self.encoder = nn.Embed(config.num_embeddings, config.d_model)
        self.stages = [Stage(config, precision, i) for i in range(config.num_stages)]

    def layers(self) -> list[SequenceLayer]:
        """Return every layer in order."""
        return [layer for stage in self.stages for layer in stage.layers]


class Classifier(nn.Module):
    """From tokens and integration timesteps to logits.

    `precision` is of training's layers. The readout and the decoder are float32, and so
    is all of inference: `fold`, and the score of a sequence outside training.
    """

    config: ModelConfig
    precision: Precision = FLOAT32

    def setup(self) -> None:
        """Make the encoder and the decoder."""
        self.encoder = Encoder(self.config, self.precision)
        highest = jax.lax.Precision.HIGHEST
        self.decoder = nn.Dense(self.config.num_classes, precision=highest)

    def __call__(
        self,
        tokens: Int[Array, "b l"],
        dt_ms: Float[Array, "b l"],
        lengths: Int[Array, " b"],
        first_row: Int[Array, ""] | int = 0,
        *,
        train: bool,
    ) -> Float[Array, "b c"]:
        """Score a batch of whole sequences.

        Args:
            tokens: (b, l); tokens past a row's length are ignored.
            dt_ms: Integration timesteps, (b, l), ms.
            lengths: Events in each row, (b,); an incomplete last tick is not scored.
            first_row: The first row's index in the whole batch of a training step.
            train: Use dropout (rng `dropout`) and the statistics of this batch.
        """
        if self.is_initializing():
            self.touch()
        stride = self.config.tick_events
        whole = tokens.shape[1] // stride * stride
        valid = jnp.arange(whole) < (lengths // stride * stride)[:, None]
        tokens = jnp.where(valid, tokens[:, :whole], 0)
        dt_ms = jnp.where(valid, dt_ms[:, :whole], 0.0)
        if train:
            rows = first_row + jnp.arange(len(lengths))
            outputs, elapsed_ms = self._train(tokens, dt_ms, valid, rows)
        else:
            outputs, elapsed_ms = self._infer(tokens, dt_ms)
        fresh = init_readout(outputs.shape[-1], jnp.inf)
        readout = jax.tree.map(
            lambda x: jnp.broadcast_to(x, (len(lengths), *x.shape)), fresh
        )
        rule = READOUTS[self.config.classification_mode]
        _, means = accumulate(rule, readout, outputs, elapsed_ms, valid[:, ::stride])
        return self.decoder(means[:, -1])

    def _infer(self, tokens: Int[Array, "b l"], dt_ms: Array) -> tuple[Array, Array]:
        weights = self.fold()
        states = tuple(zero_state(layer, tokens.shape[:1]) for layer in weights.layers)
        if tokens.size <= self.config.num_embeddings:  # the table would be larger
            x, first = self.encoder.encoder(tokens), blocks(self.config)[0]
            projected = first.project(weights.layers[0], x)
            inputs = grouped(projected, dt_ms, first.stride)
        else:
            inputs = embed(self.config, weights, tokens, dt_ms)
        _, outputs, elapsed_ms = forward(self.config, weights, states, inputs)
        return outputs, elapsed_ms

    def _train(
        self,
        tokens: Int[Array, "b l"],
        dt_ms: Array,
        valid: Bool[Array, "b l"],
        rows: Int[Array, " b"],
    ) -> tuple[Array, Array]:
        first, *others = self.encoder.layers()
        inputs = self._enter(tokens, dt_ms, valid)
        valid = valid[:, :: first.block.stride]
        x = first.train(inputs, valid, rows)
        for layer in others:
            elapsed_ms, stride = inputs.dt_ms.sum(axis=-1), layer.block.stride
            inputs = grouped(layer.project_batch(x, valid), elapsed_ms, stride)
            valid = valid[:, ::stride]
            x = layer.train(inputs, valid, rows)
        return x, inputs.dt_ms.sum(axis=-1)

    def _enter(
        self, tokens: Int[Array, "b l"], dt_ms: Array, valid: Bool[Array, "b l"]
    ) -> Grouped | TokenInputs:
        """Project a batch's tokens, or the whole vocabulary where that is smaller."""
        first = self.encoder.layers()[0]
        stride = first.block.stride
        depends_on_batch = self.config.batchnorm and self.config.prenorm
        if depends_on_batch or tokens.size <= self.config.num_embeddings:
            projected = first.project_batch(self.encoder.encoder(tokens), valid)
            return grouped(projected, dt_ms, stride)
        shape = (*tokens.shape[:-1], -1, stride)
        table = self._project_vocabulary(first.block)
        return TokenInputs(table, tokens.reshape(shape), dt_ms.reshape(shape))

    def _project_vocabulary(self, block: Block) -> Projected:
        first = self.encoder.layers()[0].fold()
        return block.project(first, self.encoder.encoder.embedding)

    def touch(self) -> Float[Array, " c"]:
        """Use every parameter once, without time: what initialization runs."""
        x = self.encoder.encoder(jnp.zeros((), jnp.int32))
        for layer in self.encoder.layers():
            x = layer.touch(x)
        return self.decoder(x)

    def fold(self) -> Weights:
        """Return the weights of online inference.

        A token's norm and its projection by B depend on the token alone: a table.
        """
        decoder = self.decoder.variables["params"]
        return Weights(
            table=self._project_vocabulary(blocks(self.config)[0]),
            layers=tuple(layer.fold() for layer in self.encoder.layers()),
            decoder=Affine(decoder["kernel"], decoder["bias"]),
        )

    def init_state(self, half_life_ms: float | Float[Array, ""]) -> State:
        """Return a new stream's state; `half_life_ms` as in `Readout`."""
        layers = self.encoder.layers()
        weights = [layer.fold() for layer in layers]
        ssm = tuple(join(zero_state(folded, ())) for folded in weights)
        groups = tuple(
            layer.block.init_group(folded)
            for layer, folded in zip(layers, weights, strict=True)
        )
        readout = init_readout(layers[-1].features_out, half_life_ms)
        return State(Carry(ssm, readout), groups)


def initialize(config: ModelConfig, key: Array) -> Variables:
    """Draw a model's parameters (and empty batch statistics), float32."""
    return jax.jit(lambda key: Classifier(config).init(key, method="touch"))(key)


def leaves(variables: Variables) -> dict[str, Any]:
    """Return every leaf by its path, as in `params/decoder/bias`."""
    flat, _ = jax.tree_util.tree_flatten_with_path(variables)
    return {"/".join(str(part.key) for part in path): leaf for path, leaf in flat}


def expected_shapes(config: ModelConfig) -> dict[str, Shape]:
    """Return the shape of every leaf of a model's variables, by path."""
    model = Classifier(config)
    variables = jax.eval_shape(
        lambda key: model.init(key, method="touch"), jax.random.key(0)
    )
    return {name: tuple(leaf.shape) for name, leaf in leaves(variables).items()}


def scan(
    config: ModelConfig,
    variables: Variables,
    tokens: Int[Array, " l"],
    dt_ms: Float[Array, " l"],
) -> Float[Array, " c"]:
    """Score a whole sequence; an incomplete last tick is not scored."""
    lengths = jnp.asarray([tokens.shape[0]])
    model = Classifier(config)
    return model.apply(variables, tokens[None], dt_ms[None], lengths, train=False)[0]


def fold(config: ModelConfig, variables: Variables) -> Weights:
    """Return the weights that `inference` reads; see `Classifier.fold`."""
    return _jitted(config, "fold")(variables)


def init_state(
    config: ModelConfig,
    variables: Variables,
    half_life_ms: float | Float[Array, ""] = jnp.inf,
) -> State:
    """Return a new stream's state.

    Args:
        config: The model's configuration.
        variables: The model's parameters; the state has their precision.
        half_life_ms: Sensor time in which a tick's weight in the readout halves.
    """
    return _jitted(config, "init_state")(variables, half_life_ms)


def init_carry(
    config: ModelConfig,
    variables: Variables,
    half_life_ms: float | Float[Array, ""] = jnp.inf,
) -> Carry:
    """Return a new session's carry, no slot axis; arguments as for `init_state`."""
    return init_state(config, variables, half_life_ms).carry


@cache
def _jitted(config: ModelConfig, method: str) -> Any:
    return jax.jit(partial(Classifier(config).apply, method=method))
