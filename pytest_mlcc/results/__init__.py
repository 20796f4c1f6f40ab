"""What happened: records, history, journals and artifacts of runs."""
