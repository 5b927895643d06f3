"""The checks of an audit: pure functions of a `Evidence`, one for each link of the chain."""
