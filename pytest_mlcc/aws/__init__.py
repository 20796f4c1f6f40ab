"""How AWS is reached: clients, the pin to the local AWS, names, tags, waits, errors and deletions. The only owner of boto3."""
