"""The YAML files: pipelines read, checked and wired; nothing is opened."""
