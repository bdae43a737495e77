"""Face crops to a model file: data loading, augmentation, networks, metrics, the training loop."""
