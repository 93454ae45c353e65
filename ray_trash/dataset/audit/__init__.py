"""What is wrong with a data set: copies, near copies, leaks, shortcuts, suspects, and photos that stand out."""
