"""A slow reference of the network: event by event, in float64, with NumPy alone.

Nothing is grouped, folded, scanned associatively or compiled. Only the configuration
and the names of the parameters are shared with `saccade.model`, whose scores must agree
with the reference.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from saccade.model.classifier import Variables
from saccade.model.config import ModelConfig

Floats = npt.NDArray[np.float64]
Complexes = npt.NDArray[np.complex128]
EPSILON_MS = 1e-6


class Layer:
    """One block of the network and its state.

    Args:
        config: The network.
        params: The block's parameters.
        statistics: Batch norm's means and variances; None with layer norm.
        stride: Tokens in per token out.
    """

    def __init__(
        self, config: ModelConfig, params: Any, statistics: Any, stride: int
    ) -> None:
        self._config, self._params, self._stride = config, params, stride
        self._statistics = statistics
        ssm = params["S5SSM_0"]
        real = np.minimum(ssm["Lambda_re"], -1e-4 if config.clip_eigs else np.inf)
        self._eigenvalues = real + 1j * ssm["Lambda_im"]
        self._timescales = config.step_rescale * np.exp(ssm["log_step"][:, 0])
        self._B, self._C = (ssm[name] @ np.array([1, 1j]) for name in "BC")
        self._D = ssm["D"]
        self._state = np.zeros(len(real), np.complex128)

    def feed(self, x: Floats, dt_ms: Floats) -> tuple[Floats, Floats]:
        """Return the outputs and timesteps of whole stride groups.

        Args:
            x: Inputs, (l, h).
            dt_ms: Integration timesteps, (l,), ms.

        Returns:
            Outputs, (l / stride, ·), and timesteps, (l / stride,), ms.
        """
        groups = (-1, self._stride)
        u = self._normalize(x) if self._config.prenorm else x
        states = self._states(u @ self._B.T, dt_ms)[:: self._stride]
        dt_ms = dt_ms.reshape(groups)
        weights = self._weights(dt_ms)
        pooled, skip = (
            np.einsum("gn,gnh->gh", weights, part.reshape(*groups, part.shape[-1]))
            for part in (u, x)
        )
        y = self._mix(states, pooled, skip)
        return (y if self._config.prenorm else self._normalize(y)), dt_ms.sum(axis=1)

    def _states(self, drive: Complexes, dt_ms: Floats) -> Complexes:
        decay = np.exp(dt_ms[:, None] * self._timescales * self._eigenvalues)
        match self._config.discretization:
            case "zoh":
                gain = (decay - 1.0) / self._eigenvalues
            case "async":
                stepped = np.exp(self._timescales * self._eigenvalues)
                gain = np.broadcast_to((stepped - 1) / self._eigenvalues, decay.shape)
            case "dirac":
                gain = np.ones_like(decay)
        states: Complexes = np.empty_like(decay)
        state = self._state
        for k, entering in enumerate(gain * drive):
            state = decay[k] * state + entering
            states[k] = state
        self._state = state
        return states

    def _weights(self, dt_ms: Floats) -> Floats:
        match self._config.pooling_mode:
            case "last":
                weights = np.zeros_like(dt_ms)
                weights[:, 0] = 1.0
            case "avgpool":
                weights = np.ones_like(dt_ms)
            case "timepool":
                weights = dt_ms + EPSILON_MS
        normalized: Floats = weights / weights.sum(axis=1, keepdims=True)
        return normalized

    def _mix(self, states: Complexes, pooled: Floats, skip: Floats) -> Floats:
        y = (states @ self._C.T).real * (2 if self._config.conj_sym else 1)
        y = y + (pooled * self._D if self._D.ndim == 1 else pooled @ self._D.T)
        cubic = np.sqrt(2 / np.pi) * (y + 0.044715 * y**3)
        gate = _dense(self._params["Dense_0"], 0.5 * y * (1 + np.tanh(cubic)))
        if "Dense_1" in self._params:
            skip = _dense(self._params["Dense_1"], skip)
        mixed: Floats = skip + y / (1 + np.exp(-gate))
        return mixed

    def _normalize(self, x: Floats) -> Floats:
        if self._config.batchnorm:
            params, statistics = self._params["BatchNorm_0"], self._statistics
            mean, var = (statistics["BatchNorm_0"][name] for name in ("mean", "var"))
            normal = (x - mean) / np.sqrt(var + 1e-5)
        else:
            params = self._params["LayerNorm_0"]
            centred = x - x.mean(axis=-1, keepdims=True)
            normal = centred / np.sqrt(x.var(axis=-1, keepdims=True) + 1e-6)
        scaled: Floats = normal * params["scale"] + params["bias"]
        return scaled


class Network:
    """The whole network with the state of one stream."""

    def __init__(self, config: ModelConfig, variables: Variables) -> None:
        self._config = config
        variables = _double(variables)
        params = variables["params"]
        statistics = variables.get("batch_stats", {}).get("encoder", {})
        self._embedding = params["encoder"]["encoder"]["embedding"]
        self._decoder = params["decoder"]
        self._layers = [
            Layer(
                config,
                params["encoder"][f"stages_{stage}"][f"SequenceLayer_{place}"],
                statistics.get(f"stages_{stage}", {}).get(f"SequenceLayer_{place}"),
                config.pooling_stride if place == 0 else 1,
            )
            for stage in range(config.num_stages)
            for place in range(config.num_layers_per_stage)
        ]
        self._sum, self._total = 0.0 * self._decoder["kernel"][:, 0], 0.0

    def feed(self, tokens: npt.NDArray[np.int32], dt_ms: Floats) -> Floats:
        """Return the logits after the last of these whole ticks."""
        x, dt_ms = self._embedding[tokens], np.asarray(dt_ms, np.float64)
        for layer in self._layers:
            x, dt_ms = layer.feed(x, dt_ms)
        match self._config.classification_mode:
            case "pool":
                self._sum, self._total = self._sum + x.sum(0), self._total + len(x)
            case "timepool":
                self._sum = self._sum + (dt_ms + EPSILON_MS) @ x
                self._total += dt_ms.sum()
            case "last":
                self._sum, self._total = x[-1], 1.0
        return _dense(self._decoder, self._sum / self._total)


def _dense(params: Any, x: Floats) -> Floats:
    y: Floats = x @ params["kernel"] + params["bias"]
    return y


def _double(node: Any) -> Any:
    if isinstance(node, dict):
        return {name: _double(part) for name, part in node.items()}
    return np.asarray(node, np.float64)
