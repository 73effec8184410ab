"""The same work through what people would use instead; no part of the product imports this."""
