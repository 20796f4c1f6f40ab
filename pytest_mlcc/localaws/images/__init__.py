"""Container images: built from a Dockerfile, pushed, pulled and unpacked as real OCI images, with a container engine or without."""
