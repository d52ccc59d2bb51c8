"""The app: starts runs, follows them, and shows them; it never loads torch."""
