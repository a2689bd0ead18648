"""Both towers block by block, within a memory limit; `plan` computes what fits."""
