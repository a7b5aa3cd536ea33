"""The audit: from checkpoints and records to results."""
