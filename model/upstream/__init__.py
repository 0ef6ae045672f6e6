"""Import of the authors' published checkpoints, checked leaf by leaf.

`files` reads the reference trainer's files, `recipes` describes their networks and
tasks, `conversion` compares the two and writes a checkpoint of ours.
"""
