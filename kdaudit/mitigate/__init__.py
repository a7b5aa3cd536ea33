"""Mitigations: what lowers the leak of a student, and whether it does more than learning less."""
