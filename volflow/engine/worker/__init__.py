"""The worker side: ranges of blocks, run in a child process and marked when done."""
