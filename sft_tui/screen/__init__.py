"""The full-screen app: views are pure functions from state to lines; one widget draws the parts that changed."""
