"""The few-shot segmenter of II-CATS: filters fitted to a few masks follow an object."""
