"""Per-token signals: what one forward pass leaves behind."""
