"""``python -m sharpzo``: the command line, if its script is not on the path."""

from sharpzo.cli import run

if __name__ == "__main__":
    run()
