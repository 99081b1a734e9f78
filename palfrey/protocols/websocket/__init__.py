"""WebSocket (RFC 6455) with permessage-deflate (RFC 7692): frames <-> messages, over any HTTP version's stream."""
