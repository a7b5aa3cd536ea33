"""Audits language models for membership inference: the teacher and the students distilled from it."""

__version__ = "0.1.0"
