"""Texts as they are put in front of a model."""
