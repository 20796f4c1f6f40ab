"""Container images without a container engine: built from a Dockerfile, pushed, pulled and unpacked as real OCI images."""
