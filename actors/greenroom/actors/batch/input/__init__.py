"""What a job reads: JSON lines or CSV rows, templates over their fields, and the options said for all of them."""
