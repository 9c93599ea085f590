"""The roles in whose name the product works: made once in a cluster, and given what they need in each database."""
