"""What stands before the page and its endpoints: plain ASGI, nothing of Gradio, and nothing that reads a whole request."""
