"""Who carries a stage out."""
