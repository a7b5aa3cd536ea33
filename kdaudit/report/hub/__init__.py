"""What the Hugging Face Hub is told: a section of a model card, and its metadata."""
