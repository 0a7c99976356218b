"""Volumes out, into single files and folders of sections, section by section."""
