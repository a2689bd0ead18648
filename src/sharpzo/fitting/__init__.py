"""Photos, a model and a method become a trained classifier.

``fitter`` fits a data set, ``fitted`` is what that leaves, ``job`` is what a fit was asked for;
``trained`` is what a run folder keeps of it and classifies photos, ``answers`` what it says of
them; ``strangers`` tells photos of no class, ``forecast`` says what more photos would bring,
``kept`` is what a run keeps of its photos, and ``growth`` adds or forgets some.
"""
