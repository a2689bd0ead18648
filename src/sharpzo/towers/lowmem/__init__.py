"""Both towers block by block, for a process that may take little memory; `plan` says what fits."""
