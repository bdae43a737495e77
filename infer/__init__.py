"""A model file and media to verdicts that a person can check."""
