"""The offline trainer: data, augmentation, objective, loop, evaluation."""
