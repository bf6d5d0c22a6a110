"""Pictures as they come: reading them whatever they are, tiles of large ones, folders and cameras that keep on giving."""
