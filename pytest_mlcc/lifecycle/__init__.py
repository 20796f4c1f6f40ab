"""What should happen: stages, their order, what a failure stops, and one step of it."""
