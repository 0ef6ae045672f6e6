"""Event encodings: the packed record of the wire, and Prophesee's EVT2 and EVT3."""
