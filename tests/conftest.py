import sys
from pathlib import Path

from hypothesis import settings

sys.path.insert(0, str(Path(__file__).parent))

# Shared machines are slow at times, and a red build should mean a change, not a draw.
settings.register_profile("house", deadline=None, derandomize=True)
settings.load_profile("house")
