"""Search for contexts: ``run`` drives a search, ``objective`` evaluates its points by forwards of a
text tower, ``contexts`` maps points to contexts.
"""
