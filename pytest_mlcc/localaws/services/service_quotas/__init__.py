"""Service Quotas: how much of everything the account may use, read from a file and raised by request."""
