"""One page a person can read about a run: figures as SVG, no network, no scripts."""
