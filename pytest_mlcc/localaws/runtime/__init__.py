"""What runs images: processes of this machine, or containers where an engine is needed and there."""
