"""What a rehearsal adds to the local AWS: the waits that AWS has (latency profiles) and the trouble it makes (fault plans)."""
