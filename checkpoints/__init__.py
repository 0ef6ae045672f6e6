"""Released weights, one folder each with its model card."""
