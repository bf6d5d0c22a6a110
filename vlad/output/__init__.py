"""What a run leaves behind: tables written row by row, and names of files that do not collide."""

from vlad.output.names import unique_stems
from vlad.output.tables import TableWriter

__all__ = ["TableWriter", "unique_stems"]
