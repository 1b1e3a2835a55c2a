"""A study of what people prefer: pairs of clips, a page, answers."""
