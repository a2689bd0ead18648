"""Many runs into one table: methods x data sets x shots x seeds x models.

``recipe`` says what, ``cell`` is one run of it and its name by content, ``compute`` runs one in a
process of its own, ``engines`` run many, ``results`` keeps what is done, ``driver`` ties these
together; ``table``, ``summary``, ``plots`` and ``published`` make of it what people read.
"""
