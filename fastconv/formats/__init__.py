"""Every way into a Graph, and the one way out that keeps all of it: one module per format.

``npz``    fastconv's own files and plain PyTorch ``state_dict`` files (:mod:`.npz`)
``torch``  live ``torch.nn.Module`` objects (:mod:`.torch`)

Nothing is imported here: a program that reads an ``.npz`` pays for that reader alone.
"""
