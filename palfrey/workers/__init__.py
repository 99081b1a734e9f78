"""One worker process: its life, the connections it serves and the limits it keeps."""
