"""p2: train recurrent character models, deploy one step of them, sample inside the engine.

Importing the package imports nothing else: each room (`p2.trainer`, `p2.export`, `p2.runtime`,
`p2.reports`) brings its own heavy libraries when it is used.
"""

from .version import __version__

__all__ = ["__version__"]
