"""A report on a data set: leaks, shortcuts, label suspects, outliers. Nothing that training needs."""
