"""The authors' published checkpoints: read, checked leaf by leaf, and made servable.

`files` reads what the reference's trainer writes, `recipes` says what it should hold,
`conversion` holds the two together and writes a checkpoint of ours.
"""
