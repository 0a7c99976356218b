"""Small trained networks that travel with volflow, each with a model card beside it."""
