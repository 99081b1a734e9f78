"""What is written down while serving: logs, access lines, the scoreboard."""
