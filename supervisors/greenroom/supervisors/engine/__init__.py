"""What the supervisors share: how a child is kept, what is checked, how restarts are counted."""
