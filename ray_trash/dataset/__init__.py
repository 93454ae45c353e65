"""Many photos: fetch, sample, catalog, audit, split, stream."""
