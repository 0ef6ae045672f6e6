"""The axis legend and the shapes that the model's functions take and return.

Axes: `s` slots, `b` batch, `l` tokens, `h` features, `p` states, `c` classes,
`k` ticks, `v` vocabulary. A leading `...` stands for any batch axes.
"""

from jaxtyping import Array, Complex, Float, Int

States = Complex[Array, "... p"]
Timescales = Float[Array, "... p"]
Features = Float[Array, "... h"]
Sequence = Float[Array, "... l h"]
Tokens = Int[Array, "... l"]
Timesteps = Float[Array, "... l"]
Logits = Float[Array, "... c"]
Scalar = Float[Array, ""]
