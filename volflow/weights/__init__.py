"""Small bundled networks, each with its model card."""
