"""Training of the few-shot segmenter on sequences of sections."""
