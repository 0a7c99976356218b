"""Work on ranges of blocks: in child processes, with markers, prefetching and limits."""
