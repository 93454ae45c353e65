"""Photos inside Parquet files: sets that `pack` wrote, and those of others."""
