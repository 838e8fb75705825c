"""HTML pages from Jinja2 templates, with one style sheet, one set of components, one script."""
