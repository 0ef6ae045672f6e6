"""A network's weights as compiled functions read them: in rows of whole vectors."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from model.layer_weights import Affine, LayerWeights
from model.native.vectors import WIDTH
from model.network import Weights
from model.planes import Planes, halves, side_by_side


class Packed(NamedTuple):
    """Weights whose rows and columns zeros fill up to multiples of 16.

    Attributes:
        table: A row for each token: what it drives, both planes, then its feed and
            its skip, (v, 2p + 2i).
        layers: The blocks'.
        decoder: From the mean to the logits; not filled up.
    """

    table: Float[Array, "v w"]
    layers: tuple[LayerWeights, ...]
    decoder: Affine


def pack(weights: Weights) -> Packed:
    """Lay weights out for `advance`."""
    drive, feed, skip = weights.table
    columns = [_filled(part, -1) for part in (*drive, feed, skip)]
    layers = tuple(_pack_layer(layer) for layer in weights.layers)
    return Packed(jnp.concatenate(columns, axis=-1), layers, weights.decoder)


def _pack_layer(layer: LayerWeights) -> LayerWeights:
    drive = Planes(*(_filled(plane, -1) for plane in halves(layer.B)))
    read = Planes(*(_filled(plane, -1) for plane in halves(layer.C.T)))
    D = _filled(layer.D, -1)
    return LayerWeights(
        rates=Planes(*(_filled(plane, -1) for plane in layer.rates)),
        B=_filled(side_by_side(drive), 0),
        C=_filled(side_by_side(read).T, -1),
        D=_filled(D, 0) if D.ndim > 1 else D,
        gate=_pack_affine(layer.gate),
        widen=_pack_affine(layer.widen) if layer.widen else None,
        norm=_pack_affine(layer.norm),
    )


def _pack_affine(affine: Affine) -> Affine:
    kernel = _filled(affine.kernel, -1)
    if kernel.ndim > 1:
        kernel = _filled(kernel, 0)
    return Affine(kernel, _filled(affine.bias, -1))


def _filled(x: Array, axis: int) -> Array:
    """Return x with zeros at an axis's end, up to a whole number of vectors."""
    widths = [(0, 0)] * x.ndim
    widths[axis] = (0, -x.shape[axis] % WIDTH)
    return jnp.pad(x, widths)
