"""The folder of a run, written and read.

``files`` writes a file whole or not at all and lets one process into a folder; ``journal`` keeps
the steps of a search and its state; ``record`` has the types of ``run.json``; ``artifact`` is a
finished run; ``claim`` is a folder while its run is made, and what a stopped one left.
"""
