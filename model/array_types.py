"""The axis legend, and the shapes that several of the model's functions take.

Axes: `s` slots, `b` batch, `l` tokens, `h` features, `p` states, `c` classes,
`k` ticks, `v` vocabulary. A leading `...` stands for any batch axes.
"""

from jaxtyping import Array, Complex, Float

States = Complex[Array, "... p"]
Timescales = Float[Array, "... p"]
