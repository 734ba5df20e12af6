"""Engines on disk: built from weights, kept, compared with PyTorch, measured."""
