"""The offline trainer: data, augmentation, optimizer, loop, evaluation, export."""
