"""Checkpoints: where they lie, what they are made of, and loading one into memory."""
