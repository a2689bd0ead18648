"""One HTML page about a run or a bench: figures as SVG, no network, no scripts."""
