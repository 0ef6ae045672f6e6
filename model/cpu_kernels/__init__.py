"""The network's inference on a CPU, as machine code made when it is first needed."""
