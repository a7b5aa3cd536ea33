"""The one seam between texts and models: how a text is shown, and which outputs predict which of its tokens."""
