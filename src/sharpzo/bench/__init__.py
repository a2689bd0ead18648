"""Many runs into one table: methods x data sets x shots x seeds x models.

``recipe`` says what, ``cell`` is one run of it and its name by content, ``compute`` runs one,
``local`` and ``ray`` run many, ``store`` keeps what is done, ``bench`` ties these together;
``table``, ``summary``, ``curves`` and ``published`` make of it what people read.
"""
