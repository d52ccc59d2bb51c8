"""What the inspecting process finds out about foreign files, and makes of them."""
