"""The local engine: tiny twins of the catalog's models, really served and really fine-tuned on the CPU.

``launch`` is the parent side (stdlib only). Everything else runs in child processes; only those import torch.
"""
