"""How the procedural pictures of `vlad.lite.data` are made."""
