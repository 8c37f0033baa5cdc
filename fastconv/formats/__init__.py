"""Every way into a Graph, and the one way out that keeps all of it: one module per format.

``npz``            fastconv's own files, and the container of plain PyTorch ``state_dict`` files (:mod:`.npz`)
``safetensors``    the other container of those (:mod:`.safetensors`)
``state_dict``     weights alone, from either: the LeNet family, or a network by its name (:mod:`.state_dict`)
``architectures``  the networks that are known by name (:mod:`.architectures`)
``torch``          live ``torch.nn.Module`` objects (:mod:`.torch`)
``transforms``     what is done to an image before it, as torchvision and timm say it (:mod:`.transforms`)

Nothing is imported here: a program that reads an ``.npz`` pays for that reader alone.
"""
