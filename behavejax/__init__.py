"""behavejax: movement and neural recordings into tokens, syllables and labels, in JAX."""

__version__ = "0.1.0"
