"""Recipes: one YAML file each, run as `dfpipe ... --config NAME`."""
