"""What must go: the ledger of what was created, the cleaner that deletes it, the guardian that cleans when pytest can't."""
