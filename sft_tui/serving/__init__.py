"""The screen in a browser: a server, and the program that runs behind each tab."""
