"""The report of a model: its page, its charts, and the diagnosis of its errors."""
