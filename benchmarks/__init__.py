"""One command per claim about speed; each measures both sides in one run and prints their ratio."""
