"""How the embedded model is trained; the command is `python -m vlad.lite.train`."""
