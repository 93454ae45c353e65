"""Photos from elsewhere: known data sets downloaded and checked, a sample set rendered."""
