"""Episodes on disk, windows in memory, transforms between raw and network units."""
