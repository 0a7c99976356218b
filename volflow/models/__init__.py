"""Networks: tensors in, tensors out, without blocks, files or devices."""
