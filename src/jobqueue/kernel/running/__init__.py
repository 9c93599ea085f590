"""From a leased job to its recorded outcome."""
