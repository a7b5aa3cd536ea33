"""The statistics of an audit: pure functions of score arrays."""
