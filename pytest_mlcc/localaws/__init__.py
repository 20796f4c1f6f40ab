"""AWS on this machine: a server that real clients can't tell from the cloud."""
