"""User studies: a page for the raters, and what their answers say."""
