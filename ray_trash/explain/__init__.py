"""What an answer looked at."""
