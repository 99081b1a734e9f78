"""What the arbiter is made of: records, plan, signals, forks. Never asyncio, protocols, or the application."""
