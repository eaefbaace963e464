"""The pages: plain HTML made on the server, one style sheet, nothing loaded from elsewhere."""
