"""Volumes in single files and in folders of sections; read, never written."""
