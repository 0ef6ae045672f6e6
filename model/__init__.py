"""The model: from events to class scores, with its training and its checkpoints.

Array axes, in every annotation: `s` slots, `b` batch, `l` tokens, `h` features,
`p` states, `c` classes, `k` ticks, `v` vocabulary. A leading `...` stands for any
batch axes.
"""
