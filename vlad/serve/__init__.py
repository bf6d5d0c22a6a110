"""Detectors behind HTTP for other programs, without a page: `vlad serve`."""
