"""How the embedded model is trained; the command is `python -m vlad.training`. Nothing that inspects pictures imports this room."""
