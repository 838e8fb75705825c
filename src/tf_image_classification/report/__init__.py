"""The report of a model: its tables and charts, and the analysis of its errors."""
