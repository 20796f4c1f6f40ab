"""Elastic Container Registry: its API and the Docker Registry v2 paths over one store of images."""
