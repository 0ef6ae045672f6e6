"""Event encodings: the wire's packed record; Prophesee's EVT2, EVT2.1, EVT3 and ECF."""
