"""Detection metrics: objects, clefts, synaptic partners."""
