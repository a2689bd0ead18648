"""Labelled photos: read from what a user names, drawn, checked, and decoded within bounds.

`loading` recognises what is given and chooses a reader, which returns a `dataset.Dataset`;
`few_shot` draws photos per class; `photo_check` reads every photo once. docs/how-it-is-built.md has
the path of a photo.
"""
