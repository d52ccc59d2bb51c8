"""Names of environment variables: what a supervisor passes to the ranks it starts, and one that users may set."""

SUPERVISOR = "SFT_TUI_SUPERVISOR"  # its pid: the parent that must outlive the rank
ATTEMPT = "SFT_TUI_ATTEMPT"  # the number of this attempt
RENDEZVOUS = "SFT_TUI_RENDEZVOUS"  # where several ranks meet, as torch's init_method
LOCK_FD = "SFT_TUI_LOCK_FD"  # inherited descriptor of the output folder's lock
LOCK_MADE = "SFT_TUI_LOCK_MADE"  # how many folders were created to take that lock; removed if the run is refused
RUN_LOCK_FD = "SFT_TUI_RUN_LOCK_FD"  # inherited descriptor of the lock of the run's own folder; only for the supervisor
NODE = "SFT_TUI_NODE"  # what this machine is called in messages and locks, in place of its host name
