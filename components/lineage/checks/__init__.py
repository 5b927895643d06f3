"""The checks of an audit: pure functions of a `Case`, one for each link of the chain."""
