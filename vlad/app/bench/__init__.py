"""The bench: from good pictures of a part to a detector that is kept."""
