"""What hosting is made of: containers by owner, their copies, what they run, and how their making goes."""
