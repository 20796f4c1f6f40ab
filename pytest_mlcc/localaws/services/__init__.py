"""The services of AWS that are ours: ``services/<name>/api.py: service(context)`` gives each."""
