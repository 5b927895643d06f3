"""One module a revision, named after it; none is changed once released."""
