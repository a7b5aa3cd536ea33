"""The demo: models trained on the spot on fictitious notes, then audited, with controls that must come out."""
