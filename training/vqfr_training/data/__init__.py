"""Photographs and the samples that are made of them."""
