"""Networks laid over volumes: tiles, flips, intensities; numpy only."""
