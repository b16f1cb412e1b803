"""The one place the version number lives: pyproject.toml and `p2 --version` both read it here."""

__version__ = "0.2.0.dev0"
