"""FER Lab: train, compare and try networks for facial-expression recognition on 48x48 grey faces."""

__version__ = "0.1.0"
