"""Verbs about networks: `train`, `pretrain`, `models`."""
