"""The full-screen app: views are pure functions from what is known to lines; one widget draws what changed of them."""
