"""What a supervisor tells the ranks it starts, by the names of environment variables."""

SUPERVISOR = "SFT_TUI_SUPERVISOR"  # its pid: the parent that must outlive the rank
ATTEMPT = "SFT_TUI_ATTEMPT"  # the number of this attempt
RENDEZVOUS = "SFT_TUI_RENDEZVOUS"  # where several ranks meet, as torch's init_method
LOCK_FD = "SFT_TUI_LOCK_FD"  # descriptor of the output folder's lock, which is inherited
LOCK_MADE = "SFT_TUI_LOCK_MADE"  # how many folders taking that lock made, which go where the run is refused
RUN_LOCK_FD = "SFT_TUI_RUN_LOCK_FD"  # likewise, of the run's own folder; for the supervisor alone
