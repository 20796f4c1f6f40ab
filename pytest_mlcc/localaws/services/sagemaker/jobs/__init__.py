"""What jobs are made of: one story for all kinds, the data they read and write, their containers and their logs."""
