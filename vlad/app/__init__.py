"""The web demo: a page for visitors, named endpoints for programs, one shared model. Needs the extra `vlad-anomaly[demo]`."""
