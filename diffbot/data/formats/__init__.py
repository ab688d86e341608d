"""Other people's datasets: one file a format, each with a reader and, where the format allows one, a writer."""
