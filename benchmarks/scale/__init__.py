"""A model of Saccade past this machine, in two levels of SimPy processes.

    python -m benchmarks.scale [--quick] [--seed N] [--json PATH] [--plot FOLDER]
    python -m benchmarks.scale --validate [--json PATH]

`replica` moves one server frame by frame and tells how many sensors it carries;
`fleet` moves sessions between replicas and tells what a lost zone, a snapshot period
and a rolling update cost. docs/scale.md has the conclusions, and how far measured runs
agree.
"""
