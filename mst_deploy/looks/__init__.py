"""What a frame shall look like: styles over time, strength, masks, colours kept."""
