"""Event encodings: the packed record of the wire, and Prophesee's EVT2, EVT2.1 and EVT3."""
