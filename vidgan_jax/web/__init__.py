"""Local pages: the one server, and the page on which one paints."""
