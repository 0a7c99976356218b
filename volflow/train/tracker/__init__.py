"""Training of the quasi-dense tracker: boxes of objects in sections, and embeddings that link."""
