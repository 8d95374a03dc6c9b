"""What a running application holds: callers, health of the record, counts, and its life cycle."""
