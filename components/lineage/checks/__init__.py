"""The checks of an audit: functions of `Evidence`, one for each link of the chain."""
