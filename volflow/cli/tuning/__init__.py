"""Settings of an agglomeration, compared side by side: the verb `tune`."""
