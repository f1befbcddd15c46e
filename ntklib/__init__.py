"""The code of a book on the neural tangent kernel: one module a chapter."""
