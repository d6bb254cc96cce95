"""A small network that scores whether lips and audio belong together, and by how many frames they are apart.

`expert.SyncExpert` embeds and scores; `files` finds experts without loading torch.
"""
