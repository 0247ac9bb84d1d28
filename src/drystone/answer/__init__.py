"""The prompt, the citations and their check. Code chooses and writes every citation; a model only phrases."""

from drystone.answer.writer import Writer

__all__ = ["Writer"]
