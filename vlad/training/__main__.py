"""`python -m vlad.training`: see `vlad.training.train`."""

from vlad.training.train import main

if __name__ == "__main__":
    main()
