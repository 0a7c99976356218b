"""Networks: tensors in, tensors out; they know nothing of blocks, files or devices."""
