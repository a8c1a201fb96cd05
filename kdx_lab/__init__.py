"""Evidence on top of the trainer: studies, analyses, complexity, scenes."""
