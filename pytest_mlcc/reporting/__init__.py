"""How it is shown: one frozen summary of a run, and every form it takes."""
