"""What Palfrey asks of the operating system: sockets, processes, pid files, systemd."""
