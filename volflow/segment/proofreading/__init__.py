"""Tables that a proofreading tool starts from: contacts of supervoxels, segment of each."""
