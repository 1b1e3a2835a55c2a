"""Sources of clips, one file each, and the pipelines that read them."""
