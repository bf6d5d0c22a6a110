"""The embedded model `lite` as an inspection needs it; how it was trained is in `vlad.training`."""
